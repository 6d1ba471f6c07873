#include "tf/tensorflow.h"

#include <dlfcn.h>
#include <link.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace mpcc::tf {
namespace {

int add_library(dl_phdr_info* info, std::size_t, void* found) {
  const std::string_view path(info->dlpi_name == nullptr ? "" : info->dlpi_name);
  const std::string_view name = path.substr(path.rfind('/') + 1);
  if (name.find("tensorflow") != name.npos)
    static_cast<std::vector<std::string>*>(found)->emplace_back(path);
  return 0;
}

Api find() {
  // The handles stay open: what is found is used as long as the process lives.
  std::vector<void*> places{RTLD_DEFAULT};
  std::vector<std::string> libraries;
  dl_iterate_phdr(add_library, &libraries);
  for (const std::string& path : libraries)
    if (void* handle = dlopen(path.c_str(), RTLD_LAZY | RTLD_NOLOAD)) places.push_back(handle);
  const auto symbol = [&](const char* name) {
    for (void* place : places)
      if (void* found = dlsym(place, name)) return found;
    throw Error("E-tf-version", std::string("TensorFlow has no function ") + name,
                "the op library needs the C API of a newer TensorFlow");
  };
  Api api;
#define F(member, name, result, parameters) \
  api.member = reinterpret_cast<decltype(api.member)>(symbol(#name));
  MPCC_TF_FUNCTIONS(F)
#undef F
  return api;
}

}  // namespace

const Api& api() {
  static const Api found = find();
  return found;
}

void Status::check() const {
  if (api().get_code(get()) != 0) throw Error("E-tf", api().message(get()));
}

}  // namespace mpcc::tf

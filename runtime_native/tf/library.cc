// Entry points: TensorFlow loads the library, which registers its ops and kernels at once; a
// process opens its tasks through the C functions. No exception crosses either boundary.
#include "tf/library.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <string>

#include "base/checked.h"
#include "base/error.h"
#include "tf/ops.h"
#include "tf/task.h"

namespace {

using mpcc::Error;
using mpcc::parse_place;
using mpcc::tf::Channel;
using mpcc::tf::Task;
using mpcc::tf::Tasks;

void tell(const char* text, char* error, std::size_t room) noexcept {
  if (error == nullptr || room == 0) return;
  const std::size_t n = std::min(std::strlen(text), room - 1);
  std::memcpy(error, text, n);
  error[n] = '\0';
}

template <class F>
int guarded(char* error, std::size_t room, F&& f) noexcept {
  try {
    f();
    return 0;
  } catch (const std::exception& e) {
    tell(e.what(), error, room);
  }
  return 1;
}

std::span<const std::byte> bytes_at(const void* data, std::size_t bytes) {
  mpcc::require(data != nullptr || bytes == 0, "E-tf-usage", "no data");
  return {static_cast<const std::byte*>(data), bytes};
}

Task& task(const char* scope, const char* place, std::shared_ptr<Task>& held) {
  held = Tasks::of_process().find(scope, parse_place(place));
  mpcc::require(held != nullptr, "E-tf-usage", "the place is not open in this scope", place);
  return *held;
}

Channel& channel(const char* scope, const char* place, std::shared_ptr<Task>& held) {
  Channel* found = task(scope, place, held).channel();
  mpcc::require(found != nullptr, "E-tf-usage", "the place has no channel", place);
  return *found;
}

// Set once, while TensorFlow loads the library.
std::string& load_error() {
  static std::string text = "E-tf-usage: TensorFlow has not loaded the library";
  return text;
}

__attribute__((constructor)) void load() noexcept {
  try {
    mpcc::tf::register_ops();
    load_error().clear();
  } catch (const std::exception& e) {
    load_error() = e.what();
  }
}

}  // namespace

int mpcc_tf_loaded(char* error, size_t room) {
  if (load_error().empty()) return 0;
  tell(load_error().c_str(), error, room);
  return 1;
}

int mpcc_tf_open(const char* scope, const char* place, const void* program, size_t bytes,
                 char* error, size_t room) {
  return guarded(error, room, [&] {
    Tasks::of_process().open(scope,
                             std::make_shared<Task>(parse_place(place), bytes_at(program, bytes)));
  });
}

int mpcc_tf_begin(const char* scope, const char* place, uint64_t run, const char* names,
                  const void* keys, size_t count, char* error, size_t room) {
  return guarded(error, room, [&] {
    std::map<std::string, std::span<const std::byte, mpcc::prg::kKeyBytes>> given;
    const auto bytes = bytes_at(keys, count * mpcc::prg::kKeyBytes);
    for (std::size_t i = 0; i < count; ++i) {
      const std::string name(names);
      names += name.size() + 1;
      given.emplace(name, bytes.subspan(i * mpcc::prg::kKeyBytes).first<mpcc::prg::kKeyBytes>());
    }
    std::shared_ptr<Task> held;
    task(scope, place, held).begin(run, given);
  });
}

int mpcc_tf_give(const char* scope, const char* place, const char* name, const void* data,
                 size_t bytes, char* error, size_t room) {
  return guarded(error, room, [&] {
    std::shared_ptr<Task> held;
    task(scope, place, held).give(name, bytes_at(data, bytes));
  });
}

int mpcc_tf_output(const char* scope, const char* place, const char* name, void* data, size_t bytes,
                   char* error, size_t room) {
  return guarded(error, room, [&] {
    std::shared_ptr<Task> held;
    const std::vector<std::byte> output = task(scope, place, held).output(name);
    mpcc::require(output.size() == bytes, "E-tf-output", "the output has another size", name);
    if (bytes != 0) std::memcpy(data, output.data(), bytes);
  });
}

int mpcc_tf_connect(const char* scope, const void* program, size_t bytes, const char* config,
                    uint32_t index, int listen_fd, int keys_only, char* error, size_t room) {
  return guarded(error, room, [&] {
    const auto data = bytes_at(program, bytes);
    auto loaded = std::make_shared<const mpcc::graph::Program>(mpcc::graph::load_program(data));
    const auto channel =
        std::make_shared<Channel>(std::move(loaded), config, index, listen_fd,
                                  keys_only != 0 ? Channel::Use::keys : Channel::Use::messages);
    for (const mpcc::Place place : channel->plan().places)
      Tasks::of_process().open(scope, std::make_shared<Task>(place, data, channel));
  });
}

int mpcc_tf_begin_run(const char* scope, const char* place, uint64_t run, char* error,
                      size_t room) {
  return guarded(error, room, [&] {
    std::shared_ptr<Task> held;
    Channel& connected = channel(scope, place, held);
    const auto keys = connected.begin(run);
    for (const mpcc::Place other : connected.plan().places) {
      std::shared_ptr<Task> sibling;
      task(scope, std::string(mpcc::place_name(other)).c_str(), sibling).begin(run, keys);
    }
  });
}

int mpcc_tf_check(const char* scope, const char* place, char* error, size_t room) {
  return guarded(error, room, [&] {
    std::shared_ptr<Task> held;
    channel(scope, place, held).check();
  });
}

int mpcc_tf_statistics(const char* scope, const char* place, char* text, size_t size, char* error,
                       size_t room) {
  return guarded(error, room, [&] {
    std::shared_ptr<Task> held;
    tell(channel(scope, place, held).statistics().c_str(), text, size);
  });
}

void mpcc_tf_disconnect(const char* scope, const char* place) {
  (void)guarded(nullptr, 0, [&] {
    std::shared_ptr<Task> held;
    Channel& connected = channel(scope, place, held);
    for (const mpcc::Place other : connected.plan().places) Tasks::of_process().close(scope, other);
    connected.close();
  });
}

void mpcc_tf_close(const char* scope, const char* place) {
  (void)guarded(nullptr, 0, [&] { Tasks::of_process().close(scope, parse_place(place)); });
}

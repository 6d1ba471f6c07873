// What the fuzz targets share. Every target is one file with LLVMFuzzerTestOneInput(); it runs
// under libFuzzer (clang) or under driver.cc (any compiler). docs/fuzzing.md says how.
//
// What counts as a finding: a report of a sanitizer, an exception that is no mpcc::Error, an
// allocation beyond the limit in options.cc, a hang, or a broken CHECK of a target.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace mpcc::fuzz {

[[noreturn]] void broken(const char* condition, const char* file, int line);

// Holds for every input, whatever the bytes.
#define MPCC_FUZZ_CHECK(condition) \
  ((condition) ? void(0) : ::mpcc::fuzz::broken(#condition, __FILE__, __LINE__))

inline std::span<const std::byte> as_bytes(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const std::byte*>(data), size};
}

inline std::string as_text(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// Runs f; whether it went through. A refusal is an mpcc::Error with a code, nothing else.
template <class F>
bool accepts(F&& f) {
  try {
    std::forward<F>(f)();
    return true;
  } catch (const Error& error) {
    MPCC_FUZZ_CHECK(error.code().starts_with("E-"));
    return false;
  }
}

// The bytes as a file that lives in memory.
class MemoryFile {
 public:
  MemoryFile(const std::uint8_t* data, std::size_t size);
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  const std::string& path() const noexcept { return path_; }

 private:
  int fd_;
  std::string path_;
};

}  // namespace mpcc::fuzz

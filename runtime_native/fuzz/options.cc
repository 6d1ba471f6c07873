#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <system_error>

#include "fuzz/common.h"

// Read by AddressSanitizer at start; ASAN_OPTIONS goes over it. Inputs are small, so nothing that
// they ask for may be large: one allocation above 64 MiB is a finding. An abort (a failed check, an
// exception that nobody expects) is reported like a memory error.
extern "C" const char* __asan_default_options();
extern "C" const char* __asan_default_options() {
  return "max_allocation_size_mb=64:allocator_may_return_null=0:handle_abort=1:"
         "detect_stack_use_after_return=1:strict_string_checks=1";
}
extern "C" const char* __ubsan_default_options();
extern "C" const char* __ubsan_default_options() { return "print_stacktrace=1"; }

namespace mpcc::fuzz {

void broken(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, condition);
  std::abort();
}

MemoryFile::MemoryFile(const std::uint8_t* data, std::size_t size)
    : fd_(memfd_create("fuzz", MFD_CLOEXEC)), path_("/proc/self/fd/" + std::to_string(fd_)) {
  if (fd_ < 0) throw std::system_error(errno, std::generic_category(), "memfd_create");
  std::size_t done = 0;
  while (done < size) {
    const ssize_t n = write(fd_, data + done, size - done);
    if (n < 0) throw std::system_error(errno, std::generic_category(), "write");
    done += static_cast<std::size_t>(n);
  }
}

MemoryFile::~MemoryFile() { close(fd_); }

}  // namespace mpcc::fuzz

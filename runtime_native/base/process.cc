#include "base/process.h"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>

#include "base/error.h"

namespace mpcc {
namespace {

// What the process has locked, from /proc: KiB.
std::size_t locked_bytes() {
  std::ifstream status("/proc/self/status");
  std::string key;
  while (status >> key) {
    std::size_t kib = 0;
    if (key == "VmLck:" && status >> kib) return kib * 1024;
    status.ignore(1 << 12, '\n');
  }
  return 0;
}

[[noreturn]] void mlock_error(const std::string& problem, rlim_t limit) {
  const std::string have =
      limit == RLIM_INFINITY ? "unlimited" : std::to_string(limit >> 10) + " KiB";
  throw Error("E-process-mlock",
              problem + ", and RLIMIT_MEMLOCK is " + have +
                  "; raise it (ulimit -l unlimited, or LimitMEMLOCK=infinity in a systemd unit) or "
                  "leave --mlock out and turn swap off");
}

rlim_t limit() {
  rlimit r{};
  return ::getrlimit(RLIMIT_MEMLOCK, &r) == 0 ? r.rlim_cur : 0;
}

}  // namespace

void forbid_dumps() {
  const rlimit none{0, 0};
  if (::setrlimit(RLIMIT_CORE, &none) != 0 || ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
    throw Error("E-process-dumps",
                std::string("core files cannot be turned off: ") + std::strerror(errno));
}

void lock_memory() {
  if (::mlockall(MCL_CURRENT | MCL_FUTURE) != 0)
    mlock_error(std::string("memory cannot be locked: ") + std::strerror(errno), limit());
}

void require_lockable(std::size_t bytes) {
  // The kernel itself says whether there is room: privileges lift the limit.
  void* probe = ::mmap(nullptr, bytes + 1, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (probe == MAP_FAILED)
    mlock_error("a run needs " + std::to_string(bytes >> 20) + " MiB beyond the " +
                    std::to_string(locked_bytes() >> 20) + " MiB that are locked",
                limit());
  ::munmap(probe, bytes + 1);
}

}  // namespace mpcc

#include <doctest/doctest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "base/checked.h"
#include "base/cpu.h"
#include "base/error.h"
#include "base/process.h"
#include "base/random.h"
#include "base/secret_buffer.h"
#include "base/thread_pool.h"

namespace mpcc {
namespace {

template <class F>
std::string code_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.code();
  }
  return "no error";
}

TEST_CASE("an error prints code, message and place") {
  const Error e("E-net-timeout", "no frame within 10 s", "peer P1");
  CHECK(std::string(e.what()) == "E-net-timeout: no frame within 10 s [peer P1]");
  CHECK(e.within("node 7").where() == "node 7 > peer P1");
  CHECK(std::string(Error("E-x", "y").what()) == "E-x: y");
}

TEST_CASE("checked arithmetic refuses to wrap") {
  constexpr std::size_t big = std::numeric_limits<std::size_t>::max();
  CHECK(checked_add<std::size_t>(big - 1, 1) == big);
  CHECK(code_of([&] { (void)checked_add<std::size_t>(big, 1); }) == "E-bounds-overflow");
  CHECK(code_of([&] { (void)checked_sub<std::size_t>(1, 2); }) == "E-bounds-overflow");
  CHECK(code_of([&] { (void)checked_mul<std::size_t>(big / 2, 3); }) == "E-bounds-overflow");
  CHECK(narrow<std::uint8_t>(255) == 255);
  CHECK(code_of([] { (void)narrow<std::uint8_t>(256); }) == "E-bounds-narrow");
  CHECK(code_of([] { (void)narrow<std::uint64_t>(-1); }) == "E-bounds-narrow");
  const std::vector<std::int64_t> shape = {2, 3, 4}, negative = {2, -1}, huge(3, 1LL << 40);
  CHECK(checked_product(std::span(shape)) == 24);
  CHECK(code_of([&] { (void)checked_product(std::span(negative)); }) == "E-bounds-negative");
  CHECK(code_of([&] { (void)checked_product(std::span(huge)); }) == "E-bounds-overflow");
}

TEST_CASE("checked slices stay inside") {
  std::vector<int> v(10);
  CHECK(checked_slice(std::span(v), 10, 0).empty());
  CHECK(checked_slice(std::span(v), 4, 6).size() == 6);
  CHECK(code_of([&] { (void)checked_slice(std::span(v), 4, 7); }) == "E-bounds-slice");
  CHECK(code_of([&] { (void)checked_slice(std::span(v), 11, 0); }) == "E-bounds-slice");
  CHECK(code_of([&] {
          (void)checked_slice(std::span(v), 1, std::numeric_limits<std::size_t>::max());
        }) == "E-bounds-slice");
}

TEST_CASE("a secret buffer is aligned, zero at first and moves") {
  for (std::size_t n : {1U, 63U, 64U, 65U, 4097U}) {
    SecretBuffer b(n);
    REQUIRE(b.size() == n);
    CHECK(reinterpret_cast<std::uintptr_t>(b.data()) % 64 == 0);
    for (std::byte x : b.bytes()) CHECK(x == std::byte{0});
    std::memset(b.data(), 7, n);
    SecretBuffer c = std::move(b);
    CHECK(b.empty());
    CHECK(c.bytes()[n - 1] == std::byte{7});
    b = std::move(c);
    CHECK(b.size() == n);
    b.reset();
    CHECK(b.data() == nullptr);
  }
  CHECK(SecretBuffer(0).data() == nullptr);
  CHECK(SecretBuffer(24).as<std::uint64_t>().size() == 3);
  CHECK(code_of([] { (void)SecretBuffer(9).as<std::uint64_t>(); }) == "E-bounds-slice");
  CHECK(code_of([] { SecretBuffer b(std::numeric_limits<std::size_t>::max()); }) == "E-memory");
}

TEST_CASE("secure_zero overwrites exactly the range") {
  std::vector<unsigned char> v(100, 0xff);
  secure_zero(v.data() + 10, 80);
  for (std::size_t i = 0; i < v.size(); ++i) CHECK(v[i] == (i < 10 || i >= 90 ? 0xff : 0));
}

// Exit code of f() in a process of its own, for what cannot be undone; 99 if it throws.
template <class F>
int in_child(F&& f) {
  const pid_t child = ::fork();
  if (child == 0) {
    int code = 99;
    try {
      code = f();
    } catch (...) {
    }
    ::_exit(code);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST_CASE("large secret buffers are left out of core files") {
  // Flags of the mapping that holds an address: "dd" is MADV_DONTDUMP.
  const auto left_out = [](const void* p) {
    std::ifstream maps("/proc/self/smaps");
    std::string line;
    bool inside = false;
    while (std::getline(maps, line)) {
      unsigned long begin = 0, end = 0;
      if (std::sscanf(line.c_str(), "%lx-%lx ", &begin, &end) == 2)
        inside =
            begin <= reinterpret_cast<unsigned long>(p) && reinterpret_cast<unsigned long>(p) < end;
      else if (inside && line.starts_with("VmFlags:"))
        return line.find(" dd") != std::string::npos;
    }
    return false;
  };
  for (const std::size_t bytes : {SecretBuffer::kOwnPages, std::size_t{1'000'003}}) {
    SecretBuffer b(bytes);
    CHECK(left_out(b.data()));
    CHECK(left_out(b.data() + bytes - 1));
    const std::byte* p = b.data();
    b.reset();
    CHECK_FALSE(left_out(p));
  }
}

TEST_CASE("a hardened process has no core files and no debugger") {
  CHECK(in_child([] {
          forbid_dumps();
          rlimit r{};
          ::getrlimit(RLIMIT_CORE, &r);
          return r.rlim_max == 0 && ::prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 ? 0 : 1;
        }) == 0);
}

TEST_CASE("locked memory, or an error that names the limit") {
  const auto attempt = [](rlim_t bytes) {
    return in_child([bytes] {
      const rlimit r{bytes, bytes};
      if (bytes != RLIM_INFINITY && ::setrlimit(RLIMIT_MEMLOCK, &r) != 0) return 3;
      // Privileges lift the limit: without them, as user `nobody`.
      if (bytes != RLIM_INFINITY && ::geteuid() == 0 && ::setuid(65534) != 0) return 3;
      try {
        lock_memory();
        require_lockable(std::size_t{1} << 20);
        return 0;
      } catch (const Error& e) {
        const bool named = e.code() == "E-process-mlock" &&
                           e.message().find("RLIMIT_MEMLOCK is ") != std::string::npos;
        return named ? 1 : 2;
      }
    });
  };
#ifdef __SANITIZE_ADDRESS__
  MESSAGE("skipped: AddressSanitizer turns mlockall() into nothing");
#else
  CHECK(attempt(4096) == 1);
#endif
  const int here = attempt(RLIM_INFINITY);  // as this machine has it
  CHECK((here == 0 || here == 1));
}

// The samples of a faulty source; a function pointer takes no state of its own.
std::vector<int> faulty_samples;
std::size_t faulty_at = 0;
void read_faulty(std::span<std::byte> out) {
  for (auto& x : out) {
    const int s = faulty_samples[faulty_at++ % faulty_samples.size()];
    x = static_cast<std::byte>(s);
  }
}

TEST_CASE("the health tests alarm at their cutoffs") {
  const auto passes = [](const std::vector<int>& samples) {
    HealthTest test;
    bool ok = true;
    for (const int s : samples) {
      const auto b = static_cast<std::byte>(s);
      ok = test.feed({&b, 1});
    }
    return ok;
  };
  std::vector<int> run = {1, 7, 7, 7, 7, 7};
  CHECK(passes(run));
  run.push_back(7);
  CHECK_FALSE(passes(run));
  run.push_back(8);
  CHECK_FALSE(passes(run));  // for good
  // One value 18 and 19 times in a window, never twice in a row.
  for (const int times : {18, 19}) {
    std::vector<int> window(512);
    for (int i = 0; i < 512; ++i) window[static_cast<std::size_t>(i)] = 10 + i % 200;
    for (int i = 0; i < times; ++i) window[static_cast<std::size_t>(20 * i)] = 5;
    CHECK(passes(window) == (times < 19));
    // The window ends: the same value goes on to be counted from zero.
    std::vector<int> two(1024);
    for (int i = 0; i < 1024; ++i) two[static_cast<std::size_t>(i)] = 10 + i % 200;
    for (int i = 0; i < times; ++i) two[static_cast<std::size_t>(512 - 10 * times + 20 * i)] = 5;
    CHECK(passes(two));
  }
}

TEST_CASE("a faulty source is refused, at the start and later") {
  std::array<std::byte, 32> out{};
  // Stuck from the beginning.
  faulty_samples = {0};
  CHECK(code_of([] { RandomSource source(&read_faulty); }) == "E-random-health");
  // Biased: every 16th byte is the same.
  faulty_samples.clear();
  for (int i = 0; i < 160; ++i) faulty_samples.push_back(i % 16 == 0 ? 3 : i);
  faulty_at = 0;
  CHECK(code_of([] { RandomSource source(&read_faulty); }) == "E-random-health");
  // Stuck later; what was asked for is not handed out, and there is no second chance.
  faulty_samples.assign(RandomSource::kStartupBytes + 40, 0);
  for (std::size_t i = 0; i < RandomSource::kStartupBytes; ++i)
    faulty_samples[i] = static_cast<int>(i * 7 % 251);
  faulty_at = 0;
  RandomSource source(&read_faulty);
  out.fill(std::byte{9});
  CHECK(code_of([&] { source.fill(out); }) == "E-random-health");
  CHECK(out == std::array<std::byte, 32>{});
  for (std::size_t i = 0; i < faulty_samples.size(); ++i)
    faulty_samples[i] = static_cast<int>(i * 7 % 251);
  CHECK(code_of([&] { source.fill(out); }) == "E-random-health");
  // A source that ends: its own error.
  const auto ending = [](std::span<std::byte>) { throw Error("E-random-source", "gone"); };
  CHECK(code_of([&] { RandomSource s(+ending); }) == "E-random-source");
}

TEST_CASE("the system's source is healthy, and differs from call to call") {
  std::array<std::byte, 1 << 16> a{}, b{};
  random_bytes(a);
  random_bytes(b);
  CHECK(a != b);
  random_bytes({});
}

TEST_CASE("without getrandom(2) there are no random bytes") {
  const auto forbid = [](unsigned action) {
    sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),  // seccomp_data.nr
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getrandom, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog filter{4, program};
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
  };
  for (const int error : {ENOSYS, EPERM}) {
    CHECK(in_child([&] {
            if (!forbid(SECCOMP_RET_ERRNO | static_cast<unsigned>(error))) return 2;
            std::array<std::byte, 16> key{};
            const std::string code = code_of([&] { random_bytes(key); });
            return code == "E-random-source" && key == std::array<std::byte, 16>{} ? 0 : 1;
          }) == 0);
  }
}

TEST_CASE("the instruction set is the best supported one unless forced") {
  CpuFeatures none;
  CHECK(choose_isa(none, "") == Isa::scalar);
  CHECK(code_of([&] { choose_isa(none, "avx2"); }) == "E-isa-unsupported");
  CHECK(code_of([&] { choose_isa(none, "sse9"); }) == "E-isa-unknown");
  CpuFeatures server;
  server.avx2 = server.bmi2 = server.avx512 = server.amx_int8 = true;
  CHECK(choose_isa(server, "") == Isa::amx);
  CHECK(choose_isa(server, "scalar") == Isa::scalar);
  CHECK(choose_isa(server, "avx512") == Isa::avx512);
  server.amx_int8 = false;
  CHECK(choose_isa(server, "") == Isa::avx512);
  for (Isa isa : all_isas()) CHECK(parse_isa(isa_name(isa)) == isa);
  MESSAGE("this CPU: " << cpu_features().describe());
}

TEST_CASE("parallel_for covers every index once") {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (std::size_t n : {0U, 1U, 2U, 7U, 1000U}) {
      for (std::size_t grain : {0U, 1U, 3U, 2000U}) {
        std::vector<std::atomic<int>> hits(n);
        pool.parallel_for(n, grain, [&](std::size_t begin, std::size_t end) {
          for (std::size_t i = begin; i < end; ++i) hits[i].fetch_add(1);
        });
        for (auto& h : hits) CHECK(h.load() == 1);
      }
    }
  }
  CHECK(code_of([] { ThreadPool p(0); }) == "E-threads");
}

TEST_CASE("parallel_for rethrows, nests and is shared by callers") {
  ThreadPool pool(3);
  CHECK(code_of([&] {
          pool.parallel_for(100, 1, [](std::size_t begin, std::size_t) {
            if (begin == 50) throw Error("E-inner", "from a range");
          });
        }) == "E-inner");
  std::atomic<std::size_t> total{0};
  const auto job = [&] {
    for (int repeat = 0; repeat < 50; ++repeat)
      pool.parallel_for(8, 1, [&](std::size_t, std::size_t) {
        pool.parallel_for(4, 1, [&](std::size_t b, std::size_t e) { total += e - b; });
      });
  };
  std::thread other(job);
  job();
  other.join();
  CHECK(total.load() == 2U * 50 * 8 * 4);
}

}  // namespace
}  // namespace mpcc

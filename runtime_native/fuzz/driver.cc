// Runs a fuzz target without libFuzzer: all files of a corpus, then a fixed number of mutations of
// them. The same arguments give the same inputs on every machine: nothing depends on a clock.
//
//   mpcc_fuzz_graphdef [-runs=N] [-seed=S] [-max_len=BYTES] [-timeout=SECONDS]
//                      [-artifact_prefix=PATH] FILE-OR-DIRECTORY...
//
// The flags are those of libFuzzer. Without -runs only the files are run. An input that ends the
// process is written to <artifact_prefix>crash-input.
#include <fcntl.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "fuzz/common.h"
#include "testing/random.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

using Bytes = std::vector<std::uint8_t>;
using mpcc::testing::TestRandom;

// A target's own mutation, if it has one: rewrites data[0, size) in place, at most max_size bytes.
extern "C" __attribute__((weak)) std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data,
                                                                     std::size_t size,
                                                                     std::size_t max_size,
                                                                     unsigned seed);
// What libFuzzer offers to custom mutators.
extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace {

struct Options {
  std::size_t runs = 0;
  std::uint64_t seed = 1;
  std::size_t max_len = 1 << 16;
  unsigned timeout = 60;
  std::string artifact_prefix;
  std::vector<std::filesystem::path> inputs;
};

TestRandom mutation_random{0};

// Handed to the death callback and to signal handlers.
const std::uint8_t* current_data = nullptr;
std::size_t current_size = 0;
std::string crash_path;

void save_current() {
  const int fd = open(crash_path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (fd < 0) return;
  std::size_t done = 0;
  while (done < current_size) {
    const ssize_t n = write(fd, current_data + done, current_size - done);
    if (n <= 0) break;
    done += static_cast<std::size_t>(n);
  }
  close(fd);
  constexpr std::string_view kText = "the input is in ";
  (void)!write(2, kText.data(), kText.size());
  (void)!write(2, crash_path.data(), crash_path.size());
  (void)!write(2, "\n", 1);
}

void on_signal(int number) {
  save_current();
  constexpr std::string_view kText = "ended by a signal or by the time limit of one input\n";
  (void)!write(2, kText.data(), kText.size());
  _exit(128 + number);
}

std::size_t number_of(std::string_view text, std::string_view flag) {
  std::size_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size())
    throw std::runtime_error("not a number: " + std::string(flag));
  return value;
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg = argv[i];
    const auto value = [&](std::string_view flag) { return arg.substr(flag.size()); };
    if (arg.starts_with("-runs="))
      options.runs = number_of(value("-runs="), arg);
    else if (arg.starts_with("-seed="))
      options.seed = number_of(value("-seed="), arg);
    else if (arg.starts_with("-max_len="))
      options.max_len = number_of(value("-max_len="), arg);
    else if (arg.starts_with("-timeout="))
      options.timeout = static_cast<unsigned>(number_of(value("-timeout="), arg));
    else if (arg.starts_with("-artifact_prefix="))
      options.artifact_prefix = value("-artifact_prefix=");
    else if (arg.starts_with("-"))
      throw std::runtime_error("unknown flag " + std::string(arg));
    else
      options.inputs.emplace_back(arg);
  }
  return options;
}

Bytes read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path.string());
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::vector<Bytes> read_corpus(const std::vector<std::filesystem::path>& inputs) {
  std::vector<std::filesystem::path> files;
  for (const auto& input : inputs) {
    if (!std::filesystem::is_directory(input)) {
      files.push_back(input);
      continue;
    }
    std::vector<std::filesystem::path> here;
    for (const auto& entry : std::filesystem::directory_iterator(input))
      if (entry.is_regular_file()) here.push_back(entry.path());
    std::ranges::sort(here);
    files.insert(files.end(), here.begin(), here.end());
  }
  std::vector<Bytes> corpus;
  for (const auto& file : files) corpus.push_back(read_file(file));
  return corpus;
}

void run_one(const Bytes& input, unsigned timeout) {
  // Exactly as large as the input, so that reading beyond it is seen.
  const Bytes copy(input);
  current_data = copy.data();
  current_size = copy.size();
  alarm(timeout);
  LLVMFuzzerTestOneInput(copy.data(), copy.size());
  alarm(0);
  current_size = 0;
}

void splice(Bytes& bytes, const Bytes& other, TestRandom& random, std::size_t max_len) {
  if (other.empty()) return;
  const std::size_t from = random.below(other.size());
  const std::size_t n = 1 + random.below(other.size() - from);
  const std::size_t at = random.below(bytes.size() + 1);
  const auto piece = std::span(other).subspan(from, n);
  bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(at), piece.begin(), piece.end());
  bytes.resize(std::min(bytes.size(), max_len));
}

// Puts a number that parsers stumble over somewhere, 1 to 8 bytes wide, little or big endian.
void put_number(Bytes& bytes, TestRandom& random) {
  constexpr std::array<std::uint64_t, 12> kNumbers = {
      0, 1, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0xffff, 0x7fffffff, 0xffffffff, ~0ULL >> 1, ~0ULL};
  std::uint64_t value = kNumbers[random.below(kNumbers.size())] + random.below(3) - 1;
  const std::size_t width = std::min<std::size_t>(std::size_t{1} << random.below(4), bytes.size());
  const std::size_t at = random.below(bytes.size() - width + 1);
  const bool big = random.below(2) == 0;
  for (std::size_t i = 0; i < width; ++i, value >>= 8)
    bytes[at + (big ? width - 1 - i : i)] = static_cast<std::uint8_t>(value);
}

void mutate_bytes(Bytes& bytes, TestRandom& random, std::size_t max_len) {
  const std::size_t times = std::size_t{1} << random.below(4);
  for (std::size_t i = 0; i < times; ++i) {
    if (bytes.empty()) {
      bytes.push_back(static_cast<std::uint8_t>(random.next() >> 56));
      continue;
    }
    const std::size_t at = random.below(bytes.size());
    const auto here = bytes.begin() + static_cast<std::ptrdiff_t>(at);
    switch (random.below(6)) {
      case 0:
        bytes[at] ^= static_cast<std::uint8_t>(1U << random.below(8));
        break;
      case 1:
        bytes[at] = static_cast<std::uint8_t>(random.next() >> 56);
        break;
      case 2:
        bytes.erase(here, here + static_cast<std::ptrdiff_t>(1 + random.below(std::min<std::size_t>(
                                                                     bytes.size() - at, 64))));
        break;
      case 3:
        if (bytes.size() < max_len) bytes.insert(here, static_cast<std::uint8_t>(random.next()));
        break;
      case 4:
        put_number(bytes, random);
        break;
      default: {
        const Bytes self(bytes);
        splice(bytes, self, random, max_len);
      }
    }
  }
}

int run(const Options& options) {
  crash_path = options.artifact_prefix + "crash-input";
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_set_death_callback(save_current);
#else
  std::signal(SIGSEGV, on_signal);
  std::signal(SIGABRT, on_signal);
#endif
  std::signal(SIGALRM, on_signal);
  const std::vector<Bytes> corpus = read_corpus(options.inputs);
  if (corpus.empty()) throw std::runtime_error("no inputs");
  for (const Bytes& input : corpus) run_one(input, options.timeout);
  TestRandom random(options.seed);
  for (std::size_t i = 0; i < options.runs; ++i) {
    Bytes input = corpus[random.below(corpus.size())];
    mutation_random = TestRandom(random.next());
    if (random.below(16) == 0)
      splice(input, corpus[random.below(corpus.size())], random, options.max_len);
    if (LLVMFuzzerCustomMutator != nullptr) {
      const std::size_t size = std::min(input.size(), options.max_len);
      input.resize(options.max_len);
      input.resize(LLVMFuzzerCustomMutator(input.data(), size, options.max_len,
                                           static_cast<unsigned>(random.next())));
    } else {
      mutate_bytes(input, random, options.max_len);
    }
    run_one(input, options.timeout);
  }
  std::printf("%zu files, %zu mutations: no finding\n", corpus.size(), options.runs);
  return 0;
}

}  // namespace

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size,
                                        std::size_t max_size) {
  Bytes bytes(data, data + size);
  mutate_bytes(bytes, mutation_random, max_size);
  std::ranges::copy(bytes, data);
  return bytes.size();
}

int main(int argc, char** argv) {
  Options options;
  try {
    options = parse(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
  return run(options);
}

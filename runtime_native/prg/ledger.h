// A record of what has been drawn from a key, to notice a second use of a (key, stream, block).
//
// That there is none follows from how programs, keys and runs are made (docs/randomness.md); the
// ledger is the check of that argument at run time, on in debug builds and with MPCC_DEBUG_PRG=1.
// It holds positions only, nothing secret.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace mpcc::prg {

class Ledger {
 public:
  // `uses`: how many holders of the key draw in this process, each of them everything once.
  // `name`: of the key, for errors.
  Ledger(std::string name, unsigned uses);

  // Records blocks [first, first + count) of the stream; the sum does not pass 2^64.
  // Throws Error("E-prg-reuse") when one of them has been drawn `uses` times before.
  void claim(std::uint64_t stream, std::uint64_t first, std::uint64_t count);

 private:
  // Disjoint ranges of blocks, first to last.
  using Ranges = std::map<std::uint64_t, std::uint64_t>;

  const std::string name_;
  const unsigned uses_;
  std::mutex mutex_;
  std::map<std::uint64_t, std::vector<Ranges>>
      streams_;  // per stream, what was drawn 1, 2, ... times
};

// Whether draws are to be recorded: always in debug builds, elsewhere with MPCC_DEBUG_PRG=1.
// Throws Error("E-option") when the variable is neither 0, 1 nor empty.
bool reuse_is_checked();

}  // namespace mpcc::prg

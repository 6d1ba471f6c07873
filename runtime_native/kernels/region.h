// The block interpreter: a list of elementwise ops executed block of lanes by block of lanes, so
// that what passes between the ops stays in the cache. A single op is a region of one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/block/block.h"

namespace mpcc::kernels {

// A key that a region draws from.
struct KeyName {
  std::string holders;
  bool online = true;  // of the run, not of the session

  friend auto operator<=>(const KeyName&, const KeyName&) = default;
};

// Which results of an elementwise op or a region may be written over which operands of their type:
// where nothing reads the operand of a block of lanes after the result's are written.
class InPlace {
 public:
  explicit InPlace(const Op& op);
  bool may_overwrite(std::size_t operand, std::size_t result) const {
    return writers_[result] >= 0 && writers_[result] >= free_[operand];
  }

 private:
  std::vector<std::int64_t> writers_;  // per result: the step that writes it, or -1
  std::vector<std::int64_t> free_;     // per operand: the first step that may write over it
};

class Region {
 public:
  // The ops must have been accepted by infer() / check_body().
  explicit Region(const Op& op, std::span<const ValueType> operands,
                  const BlockVariant& variant = block_variant());
  explicit Region(const Body& body, const BlockVariant& variant = block_variant());

  std::size_t inputs() const noexcept { return inputs_.size(); }
  std::size_t outputs() const noexcept { return outputs_.size(); }
  // Keys in the order in which run() takes them.
  const std::vector<KeyName>& keys() const noexcept { return keys_; }
  // Scratch bytes per thread.
  std::size_t scratch_bytes() const noexcept { return scratch_bytes_; }

  // Buffers hold whole values of the region's types. Results may not overlap each other, nor
  // operands, except that one may be written over an operand where InPlace says so.
  void run(std::span<const std::byte* const> in, std::span<std::byte* const> out,
           std::span<const prg::Aes128* const> keys, ThreadPool& pool) const;

 private:
  struct Slot {
    enum class Where { input, output, scratch } where = Where::scratch;
    std::size_t index = 0;  // of the operand or result; byte offset in scratch
    ValueType type;
  };
  struct Step {
    CompiledBlock op;
    std::vector<std::uint32_t> in;
    std::uint32_t out = 0;
    std::uint32_t key = 0;
  };

  void build(std::span<const ValueType> arguments, std::span<const Op> ops,
             std::span<const std::uint32_t> results, const BlockVariant& variant);
  void run_lanes(std::span<const std::byte* const> in, std::span<std::byte* const> out,
                 std::span<const prg::Aes128* const> keys, std::byte* scratch,
                 std::vector<const std::byte*>& pointers, std::size_t begin,
                 std::size_t count) const;

  std::size_t lanes_ = 0;
  std::size_t block_lanes_ = 0;
  std::size_t scratch_bytes_ = 0;
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> inputs_;
  std::vector<std::uint32_t> outputs_;  // slot of each result; copied when it is not its own slot
  std::vector<Step> steps_;
  std::vector<KeyName> keys_;
};

}  // namespace mpcc::kernels

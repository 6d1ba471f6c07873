#include "kernels/region.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>

#include "base/error.h"
#include "base/secret_buffer.h"

namespace mpcc::kernels {
namespace {

// Scratch that one block of lanes may take, so that it stays in a second-level cache, and the
// largest block: more lanes than that do not make the interpreter's own work noticeably smaller.
constexpr std::size_t kScratchTarget = 256 << 10;
constexpr std::size_t kMostLanes = 4096;

std::byte* thread_scratch(std::size_t bytes) {
  static thread_local SecretBuffer buffer;
  if (buffer.size() < bytes) {
    buffer.reset();
    buffer = SecretBuffer::uninitialized(bytes);
  }
  return buffer.data();
}

std::size_t aligned(std::size_t n) { return (n + 63) / 64 * 64; }

// Kernels that read a word, or a strip of planes, of that operand before they write it, and never
// again.
bool works_in_place(OpCode code, std::size_t operand) {
  switch (code) {
    case OpCode::Add:
    case OpCode::Sub:
    case OpCode::Neg:
    case OpCode::AddConst:
    case OpCode::MulConst:
    case OpCode::ShiftLeft:
    case OpCode::ShiftRight:
    case OpCode::LowBits:
    case OpCode::Xor:
    case OpCode::And:
    case OpCode::Not:
      return true;
    case OpCode::MaskBy:
    case OpCode::NegateIf:
      return operand == 1;
    default:
      return false;
  }
}

}  // namespace

InPlace::InPlace(const Op& op) {
  const auto step_after = [](std::size_t step, OpCode code, std::size_t operand) {
    return static_cast<std::int64_t>(works_in_place(code, operand) ? step : step + 1);
  };
  if (!op.body) {
    writers_ = {0};
    for (std::size_t k = 0; k < op.operands.size(); ++k) free_.push_back(step_after(0, op.code, k));
    return;
  }
  const Body& body = *op.body;
  const std::size_t arguments = body.arguments.size();
  free_.assign(arguments, 0);
  for (std::size_t i = 0; i < body.ops.size(); ++i)
    for (std::size_t k = 0; k < body.ops[i].operands.size(); ++k)
      if (const std::uint32_t v = body.ops[i].operands[k]; v < arguments)
        free_[v] = std::max(free_[v], step_after(i, body.ops[i].code, k));
  // An argument that is handed on, or a value that is a result twice, is copied after the block.
  std::vector<std::uint32_t> uses(arguments + body.ops.size(), 0);
  for (const std::uint32_t v : body.results) {
    ++uses.at(v);
    if (v < arguments) free_[v] = std::numeric_limits<std::int64_t>::max();
  }
  for (const std::uint32_t v : body.results)
    writers_.push_back(v < arguments || uses[v] != 1 ? -1
                                                     : static_cast<std::int64_t>(v - arguments));
}

Region::Region(const Op& op, std::span<const ValueType> operands, const BlockVariant& variant) {
  Op copy = op;
  const auto n = static_cast<std::uint32_t>(operands.size());
  copy.operands.clear();
  for (std::uint32_t i = 0; i < n; ++i) copy.operands.push_back(i);
  copy.results = {n};
  const std::uint32_t results[] = {n};
  build(operands, {&copy, 1}, results, variant);
}

Region::Region(const Body& body, const BlockVariant& variant) {
  build(body.arguments, body.ops, body.results, variant);
}

void Region::build(std::span<const ValueType> arguments, std::span<const Op> ops,
                   std::span<const std::uint32_t> results, const BlockVariant& variant) {
  for (const auto& t : arguments) {
    inputs_.push_back(static_cast<std::uint32_t>(slots_.size()));
    slots_.push_back({Slot::Where::input, slots_.size(), t});
    lanes_ = t.lanes;
  }
  for (const Op& op : ops) {
    Step step;
    std::vector<ValueType> operands;
    for (const std::uint32_t v : op.operands) operands.push_back(slots_.at(v).type);
    step.op = compile(op, operands, variant);
    step.in = op.operands;
    step.out = static_cast<std::uint32_t>(slots_.size());
    if (op.code == OpCode::DrawRing || op.code == OpCode::DrawBits) {
      const KeyName name{op.attributes.text("key"), op.attributes.text("phase") == "online"};
      const auto found = std::ranges::find(keys_, name);
      step.key = static_cast<std::uint32_t>(found - keys_.begin());
      if (found == keys_.end()) keys_.push_back(name);
    }
    slots_.push_back({Slot::Where::scratch, 0, op.types.at(0)});
    lanes_ = op.types[0].lanes;
    steps_.push_back(std::move(step));
  }
  outputs_.assign(results.begin(), results.end());
  for (std::size_t i = 0; i < outputs_.size(); ++i) {
    Slot& slot = slots_.at(outputs_[i]);
    if (slot.where == Slot::Where::scratch) {
      slot.where = Slot::Where::output;
      slot.index = i;
    }
  }

  // Block size: what fits the target without reuse of slots is a simple, safe bound.
  std::size_t per_block = 0;
  for (const Slot& slot : slots_)
    if (slot.where == Slot::Where::scratch) per_block += aligned(slot.type.bytes_of(kBlockLanes));
  block_lanes_ = kMostLanes;
  while (block_lanes_ > kBlockLanes && per_block * (block_lanes_ / kBlockLanes) > kScratchTarget)
    block_lanes_ /= 2;

  // Scratch offsets: a slot is free again after its last use.
  std::vector<std::size_t> last(slots_.size(), 0);
  for (std::size_t s = 0; s < steps_.size(); ++s) {
    last[steps_[s].out] = std::max(last[steps_[s].out], s);
    for (const std::uint32_t v : steps_[s].in) last[v] = s;
  }
  std::multimap<std::size_t, std::size_t> free;  // size -> offset
  for (std::size_t s = 0; s < steps_.size(); ++s) {
    Slot& out = slots_[steps_[s].out];
    if (out.where == Slot::Where::scratch) {
      const std::size_t need = aligned(out.type.bytes_of(block_lanes_));
      const auto fit = free.lower_bound(need);
      if (fit != free.end() && fit->first == need) {
        out.index = fit->second;
        free.erase(fit);
      } else {
        out.index = scratch_bytes_;
        scratch_bytes_ += need;
      }
    }
    std::vector<std::uint32_t> ended = steps_[s].in;
    ended.push_back(steps_[s].out);
    std::ranges::sort(ended);
    ended.erase(std::unique(ended.begin(), ended.end()), ended.end());
    for (const std::uint32_t v : ended)
      if (slots_[v].where == Slot::Where::scratch && last[v] == s)
        free.emplace(aligned(slots_[v].type.bytes_of(block_lanes_)), slots_[v].index);
  }
}

void Region::run(std::span<const std::byte* const> in, std::span<std::byte* const> out,
                 std::span<const prg::Aes128* const> keys, ThreadPool& pool) const {
  if (in.size() != inputs_.size() || out.size() != outputs_.size() || keys.size() != keys_.size())
    throw Error("E-kernel-usage",
                "a region was given another number of buffers than it has values");
  if (lanes_ == 0) return;
  const std::size_t blocks = (lanes_ + block_lanes_ - 1) / block_lanes_;
  pool.parallel_for(blocks, pool.grain_for(blocks, 4), [&](std::size_t first, std::size_t end) {
    std::byte* scratch = thread_scratch(scratch_bytes_);
    std::vector<const std::byte*> pointers(slots_.size());
    for (std::size_t b = first; b < end; ++b) {
      const std::size_t begin = b * block_lanes_;
      run_lanes(in, out, keys, scratch, pointers, begin, std::min(block_lanes_, lanes_ - begin));
    }
  });
}

void Region::run_lanes(std::span<const std::byte* const> in, std::span<std::byte* const> out,
                       std::span<const prg::Aes128* const> keys, std::byte* scratch,
                       std::vector<const std::byte*>& pointers, std::size_t begin,
                       std::size_t count) const {
  for (const std::uint32_t v : inputs_)
    pointers[v] = in[slots_[v].index] + slots_[v].type.bytes_of(begin);
  std::vector<const std::byte*> operands;
  operands.reserve(8);
  for (const Step& step : steps_) {
    const Slot& slot = slots_[step.out];
    std::byte* to = slot.where == Slot::Where::output ? out[slot.index] + slot.type.bytes_of(begin)
                                                      : scratch + slot.index;
    pointers[step.out] = to;
    operands.clear();
    for (const std::uint32_t v : step.in) operands.push_back(pointers[v]);
    step.op.kernel({to, operands.data(), begin, count, &step.op.params,
                    keys.empty() ? nullptr : keys[step.key]});
  }
  for (std::size_t i = 0; i < outputs_.size(); ++i) {
    const Slot& slot = slots_[outputs_[i]];
    if (slot.where == Slot::Where::output && slot.index == i) continue;
    std::memcpy(out[i] + slot.type.bytes_of(begin), pointers[outputs_[i]],
                slot.type.bytes_of(count));
  }
}

}  // namespace mpcc::kernels

// Block kernels: elementwise party ops over a range of lanes.
//
// A range is [begin, begin + count) with begin a multiple of 512, count a multiple of 512 unless
// the range ends the value. Because a bit-sliced buffer is a sequence of 512-lane blocks, the bytes
// of a range are contiguous for every type (ValueType::bytes_of), so a kernel gets one pointer per
// value, to the range's first byte, and does not care whether that is a whole tensor or a scratch
// slot of the block interpreter. Results never overlap operands.
//
// Variants (scalar, avx2) are the same source compiled for different instruction sets, plus
// intrinsics where the compiler does badly; equal bit for bit, padding bits included. No branch and
// no address depends on a value, except the owner's range check in encode.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/cpu.h"
#include "kernels/op.h"
#include "prg/aes.h"

namespace mpcc::kernels {

// What a kernel needs to know of its op; see compile().
struct BlockParams {
  std::uint64_t constant = 0;  // value, mask or scale bits
  int amount = 0;              // shift, fraction bits
  double lo = 0, hi = 0;       // encode
  std::uint64_t stream = 0;    // draws
  std::uint32_t out_planes = 0;
  std::vector<std::uint32_t> in_planes;  // per operand
  // planes: indices. carry_tables, lookup: block sizes. anf: per output its number of monomials,
  // per monomial its number of planes, then the planes.
  std::vector<std::uint32_t> program;
};

struct BlockArgs {
  std::byte* out;
  const std::byte* const* in;
  std::size_t begin;
  std::size_t count;
  const BlockParams* params;
  const prg::Aes128* key;  // draws
};

using BlockKernel = void (*)(const BlockArgs&);

struct BlockVariant {
  std::string_view name;
  Isa isa;
  bool (*supported)(const CpuFeatures&);
  // Null for an op that is not elementwise. `word` is 8 or 4: the ring word of the op.
  BlockKernel (*find)(OpCode code, std::size_t word);
};

// Ascending priority.
std::span<const BlockVariant* const> block_variants() noexcept;
// The best variant that this CPU has and MPCC_ISA permits, and that agrees with the scalar one on a
// built-in check (once per process; a variant that disagrees is reported on stderr and not used).
const BlockVariant& block_variant();

// An op made ready to run: infer() must have accepted it. Throws Error("E-graph-op") when the op is
// not elementwise.
struct CompiledBlock {
  BlockKernel kernel = nullptr;
  BlockParams params;
};
CompiledBlock compile(const Op& op, std::span<const ValueType> operands,
                      const BlockVariant& variant = block_variant());

}  // namespace mpcc::kernels

#include "kernels/block/block.h"

#include <array>
#include <cstdio>
#include <cstring>

#include "base/error.h"

namespace mpcc::kernels {

#define X(name) extern const BlockVariant name;
#include "kernels/block/kernels.inc"
#undef X

namespace {

using Kind = ValueType::Kind;

constexpr std::array kVariants = {
#define X(name) &name,
#include "kernels/block/kernels.inc"
#undef X
};

void append_terms(const Nested& terms, std::vector<std::uint32_t>& program) {
  for (const Nested& output : terms.items) {
    program.push_back(static_cast<std::uint32_t>(output.items.size()));
    for (const Nested& monomial : output.items) {
      program.push_back(static_cast<std::uint32_t>(monomial.items.size()));
      for (const Nested& plane : monomial.items)
        program.push_back(static_cast<std::uint32_t>(plane.value));
    }
  }
}

std::vector<std::uint32_t> small(const std::vector<std::int64_t>& v) {
  std::vector<std::uint32_t> out;
  for (const std::int64_t i : v) out.push_back(static_cast<std::uint32_t>(i));
  return out;
}

// Runs a few ops on pseudo-random bytes by both variants; sizes around strips and blocks.
bool agrees_with_scalar(const BlockVariant& variant) {
  constexpr std::size_t kLanes = 2 * kBlockLanes + 77;
  std::vector<std::byte> words(kLanes * 8);
  std::vector<std::byte> bits(bits_bytes(kLanes, 64) * 2);
  std::uint64_t state = 1;
  for (auto* v : {&words, &bits})
    for (auto& b : *v) {
      state = state * 6364136223846793005ULL + 1442695040888963407ULL;
      b = static_cast<std::byte>(state >> 56);
    }
  struct Case {
    OpCode code;
    BlockParams params;
    std::array<const std::byte*, 4> in;
    std::size_t out_bytes;
    std::size_t word = 8;
  };
  BlockParams slice;
  slice.amount = 3;
  slice.out_planes = 61;
  BlockParams unslice;
  unslice.in_planes = {61};
  BlockParams slice32 = slice;
  slice32.out_planes = 29;
  BlockParams unslice32;
  unslice32.in_planes = {29};
  BlockParams to32;
  to32.amount = 32;
  BlockParams to64;
  to64.amount = 64;
  BlockParams tables;
  tables.in_planes = {11, 11};
  tables.program = {4, 4, 3};
  tables.out_planes = 16 + 32 + 16;
  BlockParams look;
  look.in_planes = {64, 11};
  look.program = {4, 4, 3};
  look.out_planes = 5;
  BlockParams both;
  both.out_planes = 5;
  BlockParams pairs;
  pairs.in_planes = {0, 0, 0, 0};
  const auto* w = words.data();
  const auto* b = bits.data();
  const Case cases[] = {
      {OpCode::BitSlice, slice, {w}, bits_bytes(kLanes, 61)},
      {OpCode::FromBits, unslice, {b}, kLanes * 8},
      {OpCode::MaskBy, {}, {b, w}, kLanes * 8},
      {OpCode::NegateIf, {}, {b, w}, kLanes * 8},
      {OpCode::BitSlice, slice32, {w}, bits_bytes(kLanes, 29), 4},
      {OpCode::FromBits, unslice32, {b}, kLanes * 4, 4},
      {OpCode::MaskBy, {}, {b, w}, kLanes * 4, 4},
      {OpCode::NegateIf, {}, {b, w}, kLanes * 4, 4},
      {OpCode::Cast, to32, {w}, kLanes * 4, 8},
      {OpCode::Cast, to64, {w}, kLanes * 8, 4},
      {OpCode::Mul, pairs, {w, b, b, b + 8 * 64}, kLanes * 8},
      {OpCode::Add, {}, {w, b}, kLanes * 8},
      {OpCode::Sub, {}, {w, b}, kLanes * 4, 4},
      {OpCode::ShiftRight, slice, {w}, kLanes * 8},
      {OpCode::ShiftLeft, slice32, {w}, kLanes * 4, 4},
      {OpCode::Xor, both, {b, w}, bits_bytes(kLanes, 5)},
      {OpCode::CarryTables, tables, {b, b + 8 * 64}, bits_bytes(kLanes, 64)},
      {OpCode::Lookup, look, {b, w}, bits_bytes(kLanes, 5)},
  };
  for (const Case& c : cases) {
    std::vector<std::byte> expected(c.out_bytes);
    std::vector<std::byte> got(c.out_bytes);
    const auto run = [&](const BlockVariant& by, std::vector<std::byte>& out) {
      by.find(c.code, c.word)({out.data(), c.in.data(), 0, kLanes, &c.params, nullptr});
    };
    run(*kVariants[0], expected);
    run(variant, got);
    if (expected != got) return false;
  }
  return true;
}

const BlockVariant& choose(Isa wanted) {
  for (std::size_t i = kVariants.size(); i-- > 0;) {
    const BlockVariant& variant = *kVariants[i];
    if (variant.isa > wanted || !variant.supported(cpu_features())) continue;
    if (i == 0 || agrees_with_scalar(variant)) return variant;
    std::fprintf(stderr, "mpcc: block kernels %s fail their self-check and are not used\n",
                 std::string(variant.name).c_str());
  }
  return *kVariants[0];
}

}  // namespace

std::span<const BlockVariant* const> block_variants() noexcept { return kVariants; }

const BlockVariant& block_variant() {
  static const BlockVariant& variant = choose(chosen_isa());
  return variant;
}

CompiledBlock compile(const Op& op, std::span<const ValueType> operands,
                      const BlockVariant& variant) {
  if (op.types.size() != 1)
    throw Error("E-graph-op", std::string(spec_of(op.code).name) + " is not elementwise");
  const ValueType& out = op.types[0];
  CompiledBlock c;
  BlockParams& p = c.params;
  std::size_t word = out.is_ring() ? out.word() : 8;
  for (const ValueType& x : operands) {
    p.in_planes.push_back(static_cast<std::uint32_t>(x.planes));
    if (x.is_ring()) word = x.word();
  }
  p.out_planes = static_cast<std::uint32_t>(out.planes);
  const Attributes& a = op.attributes;
  switch (op.code) {
    case OpCode::Encode:
      p.lo = a.real("lo");
      p.hi = a.real("hi");
      [[fallthrough]];
    case OpCode::Decode:
      p.amount = static_cast<int>(a.integer("frac"));
      break;
    case OpCode::AddConst:
    case OpCode::MulConst:
      p.constant = static_cast<std::uint64_t>(a.integer("value"));
      break;
    case OpCode::ShiftLeft:
    case OpCode::ShiftRight:
      p.amount = static_cast<int>(a.integer("amount"));
      break;
    case OpCode::LowBits: {
      const auto count = a.integer("count");
      p.constant = count == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
      break;
    }
    case OpCode::Cast:
      p.amount = static_cast<int>(a.integer("ring"));
      break;
    case OpCode::BitSlice:
      p.amount = static_cast<int>(a.integer("shift"));
      break;
    case OpCode::DrawRing:
    case OpCode::DrawBits:
      p.stream = static_cast<std::uint64_t>(a.integer("stream"));
      break;
    case OpCode::Planes:
      p.program = small(a.integers("indices"));
      break;
    case OpCode::CarryTables:
    case OpCode::Lookup:
      p.program = small(a.integers("blocks"));
      break;
    case OpCode::Anf:
      append_terms(a.nested("terms"), p.program);
      break;
    default:
      break;
  }
  c.kernel = variant.find(op.code, word);
  if (c.kernel == nullptr)
    throw Error("E-graph-op", std::string(spec_of(op.code).name) + " is not elementwise");
  return c;
}

}  // namespace mpcc::kernels

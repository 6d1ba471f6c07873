#include "kernels/kernel.h"

#include <utility>

#include "base/error.h"

namespace mpcc::kernels {
namespace {

using Any = std::variant<Region, Linear, Structural, Reduction, Harmonic>;

Any make(const Op& op, std::span<const ValueType> operands, std::vector<bool> constant,
         const BlockVariant& variant) {
  if (op.body) return Any(std::in_place_type<Region>, *op.body, variant);
  if (is_linear(op.code)) return Any(std::in_place_type<Linear>, op, operands, std::move(constant));
  if (is_structural(op.code)) return Any(std::in_place_type<Structural>, op, operands);
  if (op.code == OpCode::ReduceSum) return Any(std::in_place_type<Reduction>, op, operands[0]);
  if (is_harmonic(op.code)) return Any(std::in_place_type<Harmonic>, op, operands, variant.isa);
  if (spec_of(op.code).elementwise) return Any(std::in_place_type<Region>, op, operands, variant);
  throw Error("E-graph-unknown-op", "an op without a kernel", std::string(spec_of(op.code).name));
}

}  // namespace

bool has_kernel(const Op& op) noexcept {
  return op.body || is_linear(op.code) || is_structural(op.code) || op.code == OpCode::ReduceSum ||
         is_harmonic(op.code) || spec_of(op.code).elementwise;
}

Kernel::Kernel(const Op& op, std::span<const ValueType> operands, std::vector<bool> constant,
               const BlockVariant& variant)
    : kernel_(make(op, operands, std::move(constant), variant)) {}

std::span<const KeyName> Kernel::keys() const noexcept {
  const Region* region = std::get_if<Region>(&kernel_);
  return region == nullptr ? std::span<const KeyName>() : std::span(region->keys());
}

bool Kernel::packs() const noexcept { return std::holds_alternative<Linear>(kernel_); }

std::size_t Kernel::packed_bytes() const noexcept {
  const auto* linear = std::get_if<Linear>(&kernel_);
  return linear == nullptr ? 0 : linear->packed_bytes();
}

void Kernel::pack(std::span<const std::byte* const> in) {
  if (auto* linear = std::get_if<Linear>(&kernel_)) linear->pack(in);
}

void Kernel::run(std::span<const std::byte* const> in, std::span<std::byte* const> out,
                 std::span<const prg::Aes128* const> keys, ThreadPool& pool) {
  if (auto* region = std::get_if<Region>(&kernel_))
    region->run(in, out, keys, pool);
  else if (auto* linear = std::get_if<Linear>(&kernel_))
    linear->run(in, out[0], pool);
  else if (auto* reduction = std::get_if<Reduction>(&kernel_))
    reduction->run(in[0], out[0], pool);
  else if (auto* harmonic = std::get_if<Harmonic>(&kernel_))
    harmonic->run(in, out[0], pool);
  else
    std::get<Structural>(kernel_).run(in, out[0], pool);
}

}  // namespace mpcc::kernels

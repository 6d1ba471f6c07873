#include "kernels/demand.h"

#include "kernels/harmonics.h"
#include "kernels/linear.h"
#include "kernels/region.h"

namespace mpcc::kernels {
namespace {

// A register holds 512 lanes of a plane at best; a narrower value costs the same.
constexpr std::size_t kWordsPerPlane = 8;

std::uint64_t words_of(const ValueType& type) { return type.bytes() / 8 + 1; }

std::uint64_t elementwise_work(const Op& op, std::span<const ValueType> operands) {
  std::uint64_t work = 0;
  for (const ValueType& t : operands) work = sum_of(work, words_of(t));
  for (const ValueType& t : op.types) work = sum_of(work, words_of(t));
  if (op.code != OpCode::Anf) return work;
  std::uint64_t planes = 0;
  for (const Nested& output : op.attributes.nested("terms").items)
    for (const Nested& monomial : output.items) planes += monomial.items.size();
  const std::uint64_t blocks = op.types.at(0).lanes / kBlockLanes + 1;
  return sum_of(work, product_of(planes, blocks * kWordsPerPlane));
}

std::uint64_t region_work(const Body& body) {
  std::vector<ValueType> values = body.arguments;
  std::uint64_t work = 0;
  std::vector<ValueType> operands;
  for (const Op& op : body.ops) {
    operands.clear();
    for (const std::uint32_t v : op.operands) operands.push_back(values.at(v));
    work = sum_of(work, elementwise_work(op, operands));
    values.insert(values.end(), op.types.begin(), op.types.end());
  }
  return work;
}

}  // namespace

Demand demand_of(const Op& op, std::span<const ValueType> operands,
                 const std::vector<bool>& constant, int threads) {
  Demand demand;
  if (op.body) {
    demand.region_scratch = Region(*op.body).scratch_bytes();
    demand.work = region_work(*op.body);
  } else if (is_linear(op.code)) {
    demand = Linear(op, operands, constant).demand(threads);
  } else if (is_harmonic(op.code)) {
    demand.work = sum_of(elementwise_work(op, operands), harmonic_work(op, operands));
  } else {
    // The one result of a lone elementwise op is written in place, and structural ops only move.
    demand.work = elementwise_work(op, operands);
  }
  return demand;
}

}  // namespace mpcc::kernels

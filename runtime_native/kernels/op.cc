#include "kernels/op.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <set>

#include "base/error.h"

namespace mpcc {
namespace {

#define A(name, kind) \
  AttrSpec { name, AttrKind::kind }
#define X(Name, node_op, least, most, elementwise, attributes)         \
  constexpr auto attributes_of_##Name = [](auto... specs) {            \
    return std::array<AttrSpec, sizeof...(specs)>{AttrSpec(specs)...}; \
  } attributes;
#include "kernels/party_ops.inc"
#undef X
#undef A

constexpr OpSpec kOps[] = {
#define A(name, kind)
#define X(Name, node_op, least, most, elementwise, attributes) \
  {OpCode::Name, #Name, node_op, least, most, elementwise, attributes_of_##Name},
#include "kernels/party_ops.inc"
#undef X
#undef A
};

// Fraction bits of cosines and sines, as mpcc/ir/harmonics.py has them.
constexpr std::int64_t kTurnFraction = 30;

using Kind = ValueType::Kind;
using Ints = std::vector<std::int64_t>;

class Checker {
 public:
  Checker(const OpSpec& op, const Attributes& attributes, std::span<const ValueType> operands)
      : op_(op), attrs_(attributes), xs_(operands) {}

  std::vector<ValueType> run();

 private:
  [[noreturn]] void fail(const std::string& what) const {
    std::string given;
    for (std::size_t i = 0; i < xs_.size() && i < 4; ++i)
      given += (i == 0 ? " of " : ", ") + xs_[i].str();
    throw Error("E-graph-op", what, std::string(op_.name) + given);
  }
  void need(bool ok, const char* what) const {
    if (!ok) fail(what);
  }
  const ValueType& ring(std::size_t i) const {
    need(xs_[i].is_ring(), "needs a ring tensor");
    return xs_[i];
  }
  const ValueType& bits(std::size_t i) const {
    need(xs_[i].kind == Kind::bits, "needs bits");
    return xs_[i];
  }
  void same() const {
    for (const auto& x : xs_) need(x == xs_[0], "operands differ in type");
  }
  std::int64_t ring_bits(const ValueType& x) const { return x.kind == Kind::ring64 ? 64 : 32; }
  std::int64_t integer(const char* name, std::int64_t low, std::int64_t high) const {
    const std::int64_t v = attrs_.integer(name);
    if (v < low || v > high)
      fail("attribute " + std::string(name) + " = " + std::to_string(v) + " is out of range");
    return v;
  }
  void constant(const ValueType& x) const {
    if (ring_bits(x) == 32)
      integer("value", std::numeric_limits<std::int32_t>::min(),
              std::numeric_limits<std::int32_t>::max());
  }
  const Ints& per_axis(const char* name, const ValueType& x, std::int64_t low) const {
    const Ints& v = attrs_.integers(name);
    need(v.size() == x.shape.size(), "an attribute does not have one item per axis");
    for (const std::int64_t i : v)
      need(i >= low && static_cast<std::uint64_t>(i) <= kMaxElements,
           "axis attribute out of range");
    return v;
  }
  void draw() const;
  ValueType source() const;
  ValueType bit_by_ring() const;
  ValueType planes() const;
  ValueType anf() const;
  ValueType broadcast() const;
  ValueType pad() const;
  ValueType slice() const;
  ValueType gather() const;
  ValueType concat() const;
  ValueType reduce() const;
  void pairs() const;
  ValueType matmul() const;
  ValueType conv() const;
  void angle(const ValueType& x) const;
  ValueType harmonics() const;
  ValueType fourier() const;

  const OpSpec& op_;
  const Attributes& attrs_;
  std::span<const ValueType> xs_;
};

void Checker::draw() const {
  const auto holders = key_holders(attrs_.text("key"));
  need(std::ranges::find(holders, place_attribute(attrs_)) != holders.end(),
       "a place draws from a key that it does not hold");
  need(attrs_.integer("stream") >= 0, "negative stream id");
  const std::string& phase = attrs_.text("phase");
  need(phase == "setup" || phase == "online", "a draw's phase is setup or online");
}

ValueType Checker::source() const {
  const Place place = place_attribute(attrs_);
  switch (op_.code) {
    case OpCode::Input:
      return ValueType::clear(attrs_.integers("shape"), place);
    case OpCode::Weight:
      return ValueType::ring(attrs_.integers("shape"), attrs_.integer("ring"), place);
    case OpCode::DrawRing:
      draw();
      return ValueType::ring(attrs_.integers("shape"), attrs_.integer("ring"), place);
    default:
      draw();
      return ValueType::bit_planes(attrs_.integer("lanes"), attrs_.integer("planes"), place);
  }
}

ValueType Checker::bit_by_ring() const {
  const auto& bit = bits(0);
  const auto& x = ring(1);
  need(bit.planes == 1, "needs one plane");
  need(bit.lanes == x.lanes, "bits and ring tensor have different lanes");
  return x;
}

ValueType Checker::planes() const {
  const auto& x = bits(0);
  const Ints& indices = attrs_.integers("indices");
  need(!indices.empty() &&
           std::set<std::int64_t>(indices.begin(), indices.end()).size() == indices.size(),
       "needs distinct plane indices");
  for (const std::int64_t i : indices)
    need(i >= 0 && static_cast<std::size_t>(i) < x.planes, "plane index out of range");
  return ValueType::bit_planes(static_cast<std::int64_t>(x.lanes),
                               static_cast<std::int64_t>(indices.size()), x.place);
}

ValueType Checker::anf() const {
  const auto& x = bits(0);
  const Nested& terms = attrs_.nested("terms");
  need(!terms.leaf && !terms.items.empty(), "needs an output");
  for (const Nested& output : terms.items) {
    need(!output.leaf && !output.items.empty(), "every output needs a monomial");
    for (const Nested& monomial : output.items) {
      need(!monomial.leaf && !monomial.items.empty(), "a monomial is a non-empty list of planes");
      for (const Nested& plane : monomial.items)
        need(plane.leaf && plane.value >= 0 && static_cast<std::size_t>(plane.value) < x.planes,
             "plane index out of range");
    }
  }
  return ValueType::bit_planes(static_cast<std::int64_t>(x.lanes),
                               static_cast<std::int64_t>(terms.items.size()), x.place);
}

ValueType Checker::broadcast() const {
  const auto& x = ring(0);
  const Ints& shape = attrs_.integers("shape");
  const Ints& dims = attrs_.integers("dims");
  need(dims.size() == x.shape.size(), "dims must have one axis per axis of the operand");
  for (std::size_t i = 0; i < dims.size(); ++i) {
    need(dims[i] >= 0 && static_cast<std::size_t>(dims[i]) < shape.size(), "axis out of range");
    need(i == 0 || dims[i] > dims[i - 1], "dims must rise");
    need(x.shape[i] == 1 || x.shape[i] == shape[static_cast<std::size_t>(dims[i])],
         "sizes do not broadcast");
  }
  return ValueType::ring(shape, ring_bits(x), x.place);
}

ValueType Checker::pad() const {
  const auto& x = ring(0);
  const Ints& low = per_axis("low", x, 0);
  const Ints& high = per_axis("high", x, 0);
  constant(x);
  Ints shape = x.shape;
  for (std::size_t i = 0; i < shape.size(); ++i) shape[i] += low[i] + high[i];
  return ValueType::ring(shape, ring_bits(x), x.place);
}

ValueType Checker::slice() const {
  const auto& x = ring(0);
  const Ints& starts = per_axis("starts", x, 0);
  const Ints& limits = per_axis("limits", x, 0);
  const Ints& strides = per_axis("strides", x, 1);
  Ints shape(x.shape.size());
  for (std::size_t i = 0; i < shape.size(); ++i) {
    need(starts[i] <= limits[i] && limits[i] <= x.shape[i], "slice beyond its axis");
    shape[i] = (limits[i] - starts[i] + strides[i] - 1) / strides[i];
  }
  return ValueType::ring(shape, ring_bits(x), x.place);
}

ValueType Checker::gather() const {
  const auto& x = ring(0);
  const std::int64_t axis = attrs_.integer("axis");
  need(axis >= 0 && static_cast<std::size_t>(axis) < x.shape.size(), "axis out of range");
  const auto along = static_cast<std::size_t>(axis);
  const Ints& indices = attrs_.integers("indices");
  need(indices.size() <= kMaxList, "too many indices");
  for (const std::int64_t i : indices)
    need(i >= 0 && i < x.shape[along], "an index beyond its axis");
  Ints shape = x.shape;
  shape[along] = static_cast<std::int64_t>(indices.size());
  return ValueType::ring(shape, ring_bits(x), x.place);
}

ValueType Checker::reduce() const {
  const auto& x = ring(0);
  const Ints& axes = attrs_.integers("axes");
  for (std::size_t i = 0; i < axes.size(); ++i)
    need(axes[i] >= (i == 0 ? 0 : axes[i - 1] + 1) &&
             static_cast<std::size_t>(axes[i]) < x.shape.size(),
         "axes must rise and exist");
  Ints shape;
  for (std::size_t i = 0; i < x.shape.size(); ++i)
    if (std::ranges::find(axes, static_cast<std::int64_t>(i)) == axes.end())
      shape.push_back(x.shape[i]);
  return ValueType::ring(shape, ring_bits(x), x.place);
}

ValueType Checker::concat() const {
  need(!xs_.empty(), "needs an operand");
  const auto& first = ring(0);
  const std::int64_t axis = attrs_.integer("axis");
  need(axis >= 0 && static_cast<std::size_t>(axis) < first.shape.size(), "axis out of range");
  const auto along = static_cast<std::size_t>(axis);
  Ints shape = first.shape;
  for (std::size_t i = 1; i < xs_.size(); ++i) {
    const auto& x = ring(i);
    need(x.kind == first.kind && x.shape.size() == shape.size(), "operands do not concatenate");
    for (std::size_t d = 0; d < shape.size(); ++d)
      need(d == along || x.shape[d] == first.shape[d], "operands do not concatenate");
    shape[along] += x.shape[along];
    need(static_cast<std::uint64_t>(shape[along]) <= kMaxElements, "result too large");
  }
  return ValueType::ring(shape, ring_bits(first), first.place);
}

void Checker::pairs() const {
  need(!xs_.empty() && xs_.size() % 2 == 0, "needs pairs of ring tensors");
  need(ring(0).kind == ring(1).kind, "operands of different rings");
  for (std::size_t i = 2; i < xs_.size(); ++i)
    need(xs_[i] == xs_[i % 2], "operand pairs differ in type");
}

ValueType Checker::matmul() const {
  pairs();
  const Ints& a = xs_[0].shape;
  const Ints& b = xs_[1].shape;
  need(a.size() >= 2 && b.size() >= 2 && a.back() == b[b.size() - 2], "matrix sizes do not agree");
  need(b.size() == 2 || (b.size() == a.size() && std::equal(a.begin(), a.end() - 2, b.begin())),
       "leading axes differ");
  Ints shape = a;
  shape.back() = b.back();
  return ValueType::ring(shape, ring_bits(xs_[0]), xs_[0].place);
}

ValueType Checker::conv() const {
  pairs();
  const auto& x = xs_[0];
  const auto& w = xs_[1];
  return ValueType::ring(
      conv_output_shape(x.shape, w.shape, attrs_.integers("strides"), attrs_.integers("pads"),
                        attrs_.integers("dilations"), attrs_.integer("groups")),
      ring_bits(x), x.place);
}

void Checker::angle(const ValueType& x) const {
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
  integer("period", 1, ring_bits(x));
  integer("multiplier", -kMost, kMost);
  integer("precision", 1, kTurnFraction);
}

ValueType Checker::harmonics() const {
  const auto& x = ring(0);
  constexpr auto kMost = static_cast<std::int64_t>(2 * kMaxHarmonics);
  const std::int64_t first = integer("first", 0, kMost - 1);
  Ints shape = {integer("rows", 1, kMost - first)};
  shape.insert(shape.end(), x.shape.begin(), x.shape.end());
  angle(x);
  return ValueType::ring(shape, attrs_.integer("ring"), x.place);
}

ValueType Checker::fourier() const {
  const auto& x = ring(0);
  angle(x);
  const Ints& cos = attrs_.integers("cos");
  const Ints& sin = attrs_.integers("sin");
  need(!cos.empty() && cos.size() <= kMaxHarmonics, "too few or too many harmonics");
  need(sin.size() == cos.size(), "as many sines as cosines are needed");
  const std::int64_t precision = attrs_.integer("precision");
  const std::int64_t frac = integer(
      "coefficient_frac", std::max<std::int64_t>(0, precision - kTurnFraction + 1), precision + 32);
  const std::int64_t most = std::int64_t{1} << (kTurnFraction + frac - precision);
  constexpr std::int64_t kWord = std::numeric_limits<std::int32_t>::max();
  const auto size = [&](std::int64_t v) {
    need(v >= -kWord && v <= kWord, "a coefficient is too large");
    return v < 0 ? -v : v;
  };
  for (std::size_t k = 0; k < cos.size(); ++k)
    need(size(cos[k]) + size(sin[k]) <= most, "coefficients are too large");
  need(xs_.size() > 1, "needs rows");
  std::int64_t rows = 0;
  for (std::size_t i = 1; i < xs_.size(); ++i) {
    const auto& m = ring(i);
    need(m.kind == xs_[1].kind, "rows of different rings");
    need(m.shape.size() == x.shape.size() + 1 &&
             std::equal(x.shape.begin(), x.shape.end(), m.shape.begin() + 1),
         "rows of another shape");
    need(m.shape[0] <= static_cast<std::int64_t>(2 * kMaxHarmonics), "too many rows");
    rows += m.shape[0];
  }
  need(rows == 2 * static_cast<std::int64_t>(cos.size()), "two rows per harmonic are needed");
  return ValueType::ring(x.shape, ring_bits(xs_[1]), x.place);
}

std::vector<ValueType> Checker::run() {
  const auto n = static_cast<int>(xs_.size());
  need(n >= op_.least && (op_.most < 0 || n <= op_.most), "wrong number of operands");
  for (const auto& x : xs_) need(x.place == xs_[0].place, "operands at different places");
  switch (op_.code) {
    case OpCode::Input:
    case OpCode::Weight:
    case OpCode::DrawRing:
    case OpCode::DrawBits:
      return {source()};
    case OpCode::Encode:
      need(xs_[0].kind == Kind::clear, "needs a clear tensor");
      integer("frac", 0, kMaxFraction);
      need(std::isfinite(attrs_.real("lo")) && std::isfinite(attrs_.real("hi")) &&
               attrs_.real("lo") <= attrs_.real("hi"),
           "lo and hi must be finite, lo not above hi");
      return {ValueType::ring(xs_[0].shape, attrs_.integer("ring"), xs_[0].place)};
    case OpCode::Decode:
      integer("frac", 0, kMaxFraction);
      return {ValueType::clear(ring(0).shape, xs_[0].place)};
    case OpCode::Output:
      need(xs_[0].kind == Kind::clear, "needs a clear tensor");
      return {};
    case OpCode::Transfer: {
      need(xs_[0].kind != Kind::clear, "only ring tensors and bits travel");
      ValueType t = xs_[0];
      t.place = parse_place(attrs_.text("to"));
      need(t.place != xs_[0].place, "transfer to its own place");
      return {t};
    }
    case OpCode::Add:
    case OpCode::Sub:
      same();
      return {ring(0)};
    case OpCode::Mul:
      pairs();
      need(xs_[0] == xs_[1], "factors differ in type");
      return {xs_[0]};
    case OpCode::Neg:
      return {ring(0)};
    case OpCode::AddConst:
    case OpCode::MulConst:
      constant(ring(0));
      return {xs_[0]};
    case OpCode::ShiftLeft:
    case OpCode::ShiftRight:
      integer("amount", 0, ring_bits(ring(0)) - 1);
      return {xs_[0]};
    case OpCode::LowBits:
      integer("count", 0, ring_bits(ring(0)));
      return {xs_[0]};
    case OpCode::Cast:
      return {ValueType::ring(ring(0).shape, attrs_.integer("ring"), xs_[0].place)};
    case OpCode::MaskBy:
    case OpCode::NegateIf:
      return {bit_by_ring()};
    case OpCode::FromBits: {
      const auto& x = bits(0);
      auto t = ValueType::ring(attrs_.integers("shape"), attrs_.integer("ring"), x.place);
      need(t.lanes == x.lanes, "shape does not have the lanes of the bits");
      need(x.planes <= 8 * t.word(), "planes do not fit the ring");
      return {t};
    }
    case OpCode::BitSlice: {
      const auto& x = ring(0);
      const std::int64_t planes = integer("planes", 1, ring_bits(x));
      integer("shift", 0, ring_bits(x) - planes);
      return {ValueType::bit_planes(static_cast<std::int64_t>(x.lanes), planes, x.place)};
    }
    case OpCode::Xor:
    case OpCode::And:
      same();
      return {bits(0)};
    case OpCode::Not:
      return {bits(0)};
    case OpCode::Planes:
      return {planes()};
    case OpCode::Join: {
      need(!xs_.empty(), "needs an operand");
      std::size_t total = 0;
      for (std::size_t i = 0; i < xs_.size(); ++i) {
        need(bits(i).lanes == xs_[0].lanes, "lanes differ");
        total += xs_[i].planes;
        need(total <= kMaxPlanes, "too many planes");
      }
      return {ValueType::bit_planes(static_cast<std::int64_t>(xs_[0].lanes),
                                    static_cast<std::int64_t>(total), xs_[0].place)};
    }
    case OpCode::CarryTables: {
      same();
      const auto [index, tables] = table_planes(attrs_.integers("blocks"));
      need(bits(0).planes == static_cast<std::size_t>(index), "blocks do not fit the planes");
      return {ValueType::bit_planes(static_cast<std::int64_t>(xs_[0].lanes), tables, xs_[0].place)};
    }
    case OpCode::Lookup: {
      const auto [index, tables] = table_planes(attrs_.integers("blocks"));
      need(bits(0).planes == static_cast<std::size_t>(tables) &&
               bits(1).planes == static_cast<std::size_t>(index) && xs_[0].lanes == xs_[1].lanes,
           "blocks do not fit tables and index");
      return {ValueType::bit_planes(
          static_cast<std::int64_t>(xs_[1].lanes),
          2 * static_cast<std::int64_t>(attrs_.integers("blocks").size()) - 1, xs_[0].place)};
    }
    case OpCode::Anf:
      return {anf()};
    case OpCode::Reshape: {
      const auto& x = ring(0);
      auto t = ValueType::ring(attrs_.integers("shape"), ring_bits(x), x.place);
      need(t.lanes == x.lanes, "shape has another number of elements");
      return {t};
    }
    case OpCode::Transpose: {
      const auto& x = ring(0);
      const Ints& perm = per_axis("perm", x, 0);
      Ints sorted = perm;
      std::ranges::sort(sorted);
      for (std::size_t i = 0; i < sorted.size(); ++i)
        need(sorted[i] == static_cast<std::int64_t>(i), "perm is no permutation of the axes");
      Ints shape;
      for (const std::int64_t p : perm) shape.push_back(x.shape[static_cast<std::size_t>(p)]);
      return {ValueType::ring(shape, ring_bits(x), x.place)};
    }
    case OpCode::Broadcast:
      return {broadcast()};
    case OpCode::Pad:
      return {pad()};
    case OpCode::Slice:
      return {slice()};
    case OpCode::Gather:
      return {gather()};
    case OpCode::Concat:
      return {concat()};
    case OpCode::ReduceSum:
      return {reduce()};
    case OpCode::Conv:
      return {conv()};
    case OpCode::Matmul:
      return {matmul()};
    case OpCode::Harmonics:
      return {harmonics()};
    case OpCode::Fourier:
      return {fourier()};
    case OpCode::Fused:
    case OpCode::Call:
      break;
  }
  fail("has no types of its own");
}

}  // namespace

const OpSpec& spec_of(OpCode code) noexcept { return kOps[static_cast<std::size_t>(code)]; }

const OpSpec* find_op(std::string_view node_op) noexcept {
  for (const OpSpec& op : kOps)
    if (op.node_op == node_op) return &op;
  return nullptr;
}

template <class T>
const T& Attributes::get(std::string_view name) const {
  const auto found = values_.find(name);
  if (found == values_.end())
    throw Error("E-graph-attribute", "attribute " + std::string(name) + " is missing");
  const T* value = std::get_if<T>(&found->second);
  if (value == nullptr)
    throw Error("E-graph-attribute", "attribute " + std::string(name) + " is of another kind");
  return *value;
}
template const std::int64_t& Attributes::get(std::string_view) const;
template const double& Attributes::get(std::string_view) const;
template const std::string& Attributes::get(std::string_view) const;
template const std::vector<std::int64_t>& Attributes::get(std::string_view) const;
template const Nested& Attributes::get(std::string_view) const;

Place place_attribute(const Attributes& attributes) {
  return parse_place(attributes.text("place"));
}

std::vector<Place> key_holders(std::string_view key) {
  std::vector<Place> holders;
  std::string_view rest = key.substr(0, 64);
  for (;;) {
    const auto plus = rest.find('+');
    holders.push_back(parse_place(rest.substr(0, plus)));
    if (holders.size() > 1 && holders.back() <= holders[holders.size() - 2])
      throw Error("E-graph-key", "holders of a key are not in order: " + printable(key));
    if (plus == std::string_view::npos) break;
    rest.remove_prefix(plus + 1);
  }
  if (holders.size() < 2)
    throw Error("E-graph-key", "a key needs two or more holders: " + printable(key));
  return holders;
}

std::pair<std::int64_t, std::int64_t> table_planes(const Ints& blocks) {
  std::int64_t index = 0;
  std::int64_t tables = 0;
  if (blocks.empty() || blocks.size() > kMaxBlocks)
    throw Error("E-graph-op", "needs between 1 and " + std::to_string(kMaxBlocks) + " blocks");
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    if (blocks[i] < 1 || blocks[i] > 6)
      throw Error("E-graph-op", "block sizes must be 1 to 6 bits");
    index += blocks[i];
    tables += (i == 0 ? 1 : 2) * (std::int64_t{1} << blocks[i]);
  }
  return {index, tables};
}

std::vector<std::int64_t> conv_output_shape(const Ints& x, const Ints& w, const Ints& strides,
                                            const Ints& pads, const Ints& dilations,
                                            std::int64_t groups) {
  const auto need = [](bool ok, const char* what) {
    if (!ok) throw Error("E-graph-op", what, "convolution");
  };
  need(x.size() >= 3 && w.size() == x.size(), "ranks of data and weights do not agree");
  const std::size_t rank = x.size() - 2;
  need(strides.size() == rank && dilations.size() == rank && pads.size() == 2 * rank,
       "strides, dilations and pads do not fit the rank");
  constexpr auto kMost = static_cast<std::int64_t>(kMaxConvSize);
  const auto within = [&](const Ints& v, std::int64_t low) {
    return std::ranges::all_of(v, [&](std::int64_t i) { return i >= low && i <= kMost; });
  };
  need(within(strides, 1) && within(dilations, 1) && within(pads, 0) && groups >= 1 &&
           groups <= kMost,
       "strides, dilations and groups must be positive, pads not negative");
  need(within(x, 0) && within(w, 0), "a dimension is too large");
  need(x[1] == w[1] * groups && w[0] % groups == 0, "channels do not split into the groups");
  Ints out = {x[0], w[0]};
  for (std::size_t i = 0; i < rank; ++i) {
    const std::int64_t span = dilations[i] * (w[2 + i] - 1) + 1;
    const std::int64_t room = x[2 + i] + pads[i] + pads[rank + i] - span;
    need(room >= 0, "the kernel is larger than the padded data");
    out.push_back(room / strides[i] + 1);
  }
  return out;
}

std::vector<ValueType> infer(const OpSpec& op, const Attributes& attributes,
                             std::span<const ValueType> operands) {
  return Checker(op, attributes, operands).run();
}

std::vector<ValueType> check_body(const Body& body) {
  std::vector<ValueType> values = body.arguments;
  const auto fail = [](const std::string& what) {
    throw Error("E-graph-op", what, "fused region");
  };
  const ValueType* first = values.empty() ? nullptr : &values[0];
  std::size_t lanes = first != nullptr ? first->lanes : 0;
  Place place = first != nullptr ? first->place : Place::P0;
  bool known = first != nullptr;
  std::string phase;  // of the draws so far
  const auto agree = [&](const ValueType& t) {
    if (!known) {
      lanes = t.lanes;
      place = t.place;
      known = true;
    }
    if (t.lanes != lanes || t.place != place)
      fail("values of different lanes or places: " + t.str());
  };
  for (const auto& t : body.arguments) agree(t);
  for (const Op& op : body.ops) {
    const OpSpec& spec = spec_of(op.code);
    if (!spec.elementwise) fail(std::string(spec.name) + " is not elementwise");
    if (op.attributes.has("phase")) {
      const std::string& own = op.attributes.text("phase");
      if (phase.empty()) phase = own;
      if (own != phase) fail("draws of two phases");
    }
    std::vector<ValueType> operands;
    for (const std::uint32_t v : op.operands) {
      if (v >= values.size()) fail("use of a value before it is computed");
      operands.push_back(values[v]);
    }
    auto types = infer(spec, op.attributes, operands);
    if (types != op.types)
      fail(std::string(spec.name) + ": declared types are not the inferred ones");
    for (std::size_t i = 0; i < types.size(); ++i) {
      agree(types[i]);
      if (op.results.size() != types.size() || op.results[i] != values.size())
        fail("values are not numbered in order");
      values.push_back(std::move(types[i]));
    }
  }
  if (body.results.empty()) fail("gives no value");
  std::vector<ValueType> results;
  for (const std::uint32_t v : body.results) {
    if (v >= values.size()) fail("a result that is not computed");
    results.push_back(values[v]);
  }
  return results;
}

}  // namespace mpcc

// mpcc_constant_time: kernels on operands that memcheck takes as undefined, so that it complains
// about every branch and every address that depends on them (A. Langley, ctgrind). For valgrind:
//
//   valgrind --error-exitcode=9 mpcc_constant_time
//
// Outside valgrind it exits with 77, and with `leak` it branches on a secret on purpose, which
// valgrind must notice: a check that cannot fail would say nothing.
#include <valgrind/memcheck.h>

#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/harmonics.h"
#include "kernels/linear.h"
#include "kernels/region.h"
#include "prg/aes.h"
#include "testing/random.h"

namespace {

using namespace mpcc;

template <class T>
void make_secret(T* p, std::size_t n) {
  (void)VALGRIND_MAKE_MEM_UNDEFINED(p, n * sizeof(T));
}
template <class T>
void make_public(T* p, std::size_t n) {
  (void)VALGRIND_MAKE_MEM_DEFINED(p, n * sizeof(T));
}

void check_aes(const prg::AesKernel& kernel) {
  std::vector<std::byte> key = mpcc::testing::TestRandom(1).bytes(16);
  make_secret(key.data(), key.size());
  std::vector<std::byte> out(16 * 37 + 5);
  {
    const prg::Aes128 aes(std::span<const std::byte, 16>(key), kernel);
    aes.fill(3, 5, out);
  }
  make_public(out.data(), out.size());
  std::printf("aes %.*s\n", static_cast<int>(kernel.name.size()), kernel.name.data());
}

// One op on undefined operands, by one variant of the block kernels or the harmonics, or by the
// linear ones.
void check_op(OpCode code, const Attributes& attributes, const std::vector<ValueType>& operands,
              const kernels::BlockVariant& variant) {
  Op op;
  op.code = code;
  op.attributes = attributes;
  op.types = infer(spec_of(code), attributes, operands);
  mpcc::testing::TestRandom random(2);
  std::vector<std::vector<std::byte>> in;
  std::vector<const std::byte*> in_pointers;
  for (const ValueType& t : operands) {
    in.push_back(random.bytes(t.bytes()));
    make_secret(in.back().data(), in.back().size());
    in_pointers.push_back(in.back().data());
  }
  std::vector<std::byte> out(op.types[0].bytes());
  std::byte* out_pointer = out.data();
  ThreadPool pool(1);
  if (kernels::is_linear(code)) {
    for (std::size_t i = 0; i < operands.size(); ++i)
      op.operands.push_back(static_cast<std::uint32_t>(i));
    kernels::Linear(op, operands, std::vector<bool>(operands.size(), false))
        .run(in_pointers, out_pointer, pool);
  } else if (kernels::is_harmonic(code)) {
    kernels::Harmonic(op, operands, variant.isa).run(in_pointers, out_pointer, pool);
  } else {
    kernels::Region(op, operands, variant).run(in_pointers, {&out_pointer, 1}, {}, pool);
  }
  make_public(out.data(), out.size());
  std::printf("%.*s %.*s\n", static_cast<int>(spec_of(code).name.size()), spec_of(code).name.data(),
              static_cast<int>(variant.name.size()), variant.name.data());
}

void check_blocks(const kernels::BlockVariant& variant) {
  constexpr std::int64_t kLanes = 513 + 9;
  const auto ring = ValueType::ring({kLanes}, 64, Place::P0);
  const auto bits = [&](std::int64_t planes) {
    return ValueType::bit_planes(kLanes, planes, Place::P0);
  };
  const auto with = [](std::initializer_list<std::pair<const char*, AttrValue>> list) {
    Attributes a;
    for (const auto& [name, value] : list) a.set(name, value);
    return a;
  };
  using Ints = std::vector<std::int64_t>;
  check_op(OpCode::Mul, {}, {ring, ring}, variant);
  check_op(OpCode::Mul, {}, {ring, ring, ring, ring}, variant);
  check_op(OpCode::And, {}, {bits(3), bits(3)}, variant);
  check_op(OpCode::NegateIf, {}, {bits(1), ring}, variant);
  check_op(OpCode::MaskBy, {}, {bits(1), ring}, variant);
  check_op(OpCode::BitSlice, with({{"planes", std::int64_t{17}}, {"shift", std::int64_t{2}}}),
           {ring}, variant);
  check_op(OpCode::FromBits, with({{"shape", Ints{kLanes}}, {"ring", std::int64_t{64}}}),
           {bits(17)}, variant);
  const Attributes blocks = with({{"blocks", Ints{4, 4, 4}}});
  check_op(OpCode::CarryTables, blocks, {bits(12), bits(12)}, variant);
  check_op(OpCode::Lookup, blocks, {bits(16 + 32 + 32), bits(12)}, variant);
  constexpr std::int64_t kCount = 5;
  for (const std::int64_t word : {64, 32}) {
    Attributes angle = with({{"period", word / 2 + 1},
                             {"multiplier", std::int64_t{-3}},
                             {"precision", std::int64_t{14}},
                             {"ring", word},
                             {"first", std::int64_t{1}},
                             {"rows", 2 * kCount - 1}});
    const auto x = ValueType::ring({kLanes}, word, Place::P0);
    check_op(OpCode::Harmonics, angle, {x}, variant);
    angle.set("cos", Ints(kCount, 1234));
    angle.set("sin", Ints(kCount, -777));
    angle.set("coefficient_frac", std::int64_t{11});
    check_op(OpCode::Fourier, angle, {x, ValueType::ring({2 * kCount, kLanes}, word, Place::P0)},
             variant);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (RUNNING_ON_VALGRIND == 0) {
    std::fprintf(stderr, "mpcc_constant_time says something under valgrind only\n");
    return 77;
  }
  if (argc > 1 && std::string(argv[1]) == "leak") {
    volatile int secret = 1;
    make_secret(&secret, 1);
    if (secret == 1) std::printf("a branch on a secret\n");
    return 0;
  }
  for (const auto* kernel : prg::aes_kernels())
    if (kernel->supported(cpu_features()) && !kernel->needs_vaes) check_aes(*kernel);
  for (const auto* variant : kernels::block_variants())
    if (variant->supported(cpu_features())) check_blocks(*variant);
  const auto matrix = ValueType::ring({9, 9}, 64, Place::P0);
  check_op(OpCode::Matmul, {}, {matrix, matrix}, *kernels::block_variants()[0]);
  const auto stack = ValueType::ring({3, 4, 4}, 64, Place::P0);
  check_op(OpCode::Matmul, {}, {stack, stack}, *kernels::block_variants()[0]);
  return 0;
}

#include "prg/aes.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/secret_buffer.h"
#include "prg/kernels.h"

namespace mpcc::prg {
namespace {

constexpr std::array<const AesKernel*, 4> kKernels = {
#define MPCC_AES_KERNEL(name) &internal::kernel_##name,
#include "prg/kernels.inc"
#undef MPCC_AES_KERNEL
};

using Block = std::array<std::uint8_t, kBlockBytes>;

const AesKernel& select_kernel() {
  const AesKernel& chosen = choose_aes_kernel(cpu_features(), forced_isa());
  for (const AesKernel* k : kKernels)
    if (k->supported(cpu_features()) && !self_test(*k))
      throw Error("E-prg-self-test", "AES variant " + std::string(k->name) +
                                         " does not give the known answers on this machine; do "
                                         "not use it for secrets");
  return chosen;
}

}  // namespace

const AesKernel& choose_aes_kernel(const CpuFeatures& features,
                                   std::optional<Isa> forced) noexcept {
  for (auto it = kKernels.rbegin(); it != kKernels.rend(); ++it)
    if ((!forced || (*it)->isa <= *forced) && (*it)->supported(features)) return **it;
  return *kKernels[0];  // needs nothing
}

std::span<const AesKernel* const> aes_kernels() noexcept { return kKernels; }

const AesKernel& aes_kernel() {
  static const AesKernel& kernel = select_kernel();
  return kernel;
}

bool self_test(const AesKernel& kernel) {
  alignas(64) std::uint8_t schedule[kScheduleBytes];

  // FIPS 197, appendix C.1.
  Block key{}, text{};
  for (std::size_t i = 0; i < 16; ++i) {
    key[i] = static_cast<std::uint8_t>(i);
    text[i] = static_cast<std::uint8_t>(0x11 * i);
  }
  constexpr Block kCipher = {0x69, 0xc4, 0xe0, 0xd8, 0x6a, 0x7b, 0x04, 0x30,
                             0xd8, 0xcd, 0xb7, 0x80, 0x70, 0xb4, 0xc5, 0x5a};
  kernel.expand_key(key.data(), schedule);
  Block got{};
  kernel.encrypt_block(schedule, text.data(), got.data());
  if (got != kCipher) return false;

  // FIPS 197, appendix A.1: the last round key; and SP 800-38A, F.5.1: the output blocks of the
  // counters f0 f1 ... ff and its successors, which count in the other byte order than streams do.
  constexpr Block kKey = {0x2b, 0x7e, 0x15, 0x16, 0x28, 0xae, 0xd2, 0xa6,
                          0xab, 0xf7, 0x15, 0x88, 0x09, 0xcf, 0x4f, 0x3c};
  constexpr Block kLastRoundKey = {0xd0, 0x14, 0xf9, 0xa8, 0xc9, 0xee, 0x25, 0x89,
                                   0xe1, 0x3f, 0x0c, 0xc8, 0xb6, 0x63, 0x0c, 0xa6};
  constexpr std::pair<std::uint64_t, Block> kKeystream[] = {
      {0xfffefdfcfbfaf9f8ULL,
       {0xec, 0x8c, 0xdf, 0x73, 0x98, 0x60, 0x7c, 0xb0, 0xf2, 0xd2, 0x16, 0x75, 0xea, 0x9e, 0xa1,
        0xe4}},
      {0x00fffdfcfbfaf9f8ULL,
       {0x36, 0x2b, 0x7c, 0x3c, 0x67, 0x73, 0x51, 0x63, 0x18, 0xa0, 0x77, 0xd7, 0xfc, 0x50, 0x73,
        0xae}},
      {0x01fffdfcfbfaf9f8ULL,
       {0x6a, 0x2c, 0xc3, 0x78, 0x78, 0x89, 0x37, 0x4f, 0xbe, 0xb4, 0xc8, 0x1b, 0x17, 0xba, 0x6c,
        0x44}},
      {0x02fffdfcfbfaf9f8ULL,
       {0xe8, 0x9c, 0x39, 0x9f, 0xf0, 0xf1, 0x98, 0xc6, 0xd4, 0x0a, 0x31, 0xdb, 0x15, 0x6c, 0xab,
        0xfe}}};
  kernel.expand_key(kKey.data(), schedule);
  if (!std::equal(kLastRoundKey.begin(), kLastRoundKey.end(), schedule + 160)) return false;
  for (const auto& [counter, want] : kKeystream) {
    kernel.keystream(schedule, 0xf7f6f5f4f3f2f1f0ULL, counter, got.data(), 1);
    if (got != want) return false;
  }

  // Every length up to past the widest unrolled step, against single blocks; the block index starts
  // just below 2^32, so that a 32-bit counter would be noticed.
  constexpr std::size_t kMost = 67;
  constexpr std::uint64_t kStream = 0x0123456789abcdefULL, kFirst = 0xffffffe0ULL;
  std::array<std::uint8_t, kMost * 16> want{};
  for (std::size_t i = 0; i < kMost; ++i) {
    const std::uint64_t counter[2] = {kStream, kFirst + i};
    std::memcpy(&want[16 * i], counter, 16);
    kernel.encrypt_block(schedule, &want[16 * i], &want[16 * i]);
  }
  for (std::size_t n = 0; n <= kMost; ++n) {
    std::array<std::uint8_t, kMost * 16 + 1> out;
    out.fill(0xa5);
    kernel.keystream(schedule, kStream, kFirst, out.data(), n);
    if (!std::equal(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(16 * n), want.begin()))
      return false;
    if (out[16 * n] != 0xa5) return false;
  }
  return true;
}

Aes128::Aes128(std::span<const std::byte, kKeyBytes> key) : Aes128(key, aes_kernel()) {}

Aes128::Aes128(std::span<const std::byte, kKeyBytes> key, const AesKernel& kernel)
    : kernel_(&kernel) {
  if (!kernel.supported(cpu_features()))
    throw Error("E-isa-unsupported", "AES variant " + std::string(kernel.name) +
                                         " needs what this machine lacks; it has " +
                                         cpu_features().describe());
  kernel.expand_key(reinterpret_cast<const std::uint8_t*>(key.data()), schedule_.data());
}

Aes128::Aes128(Aes128&& other) noexcept
    : schedule_(other.schedule_), kernel_(other.kernel_), ledger_(std::move(other.ledger_)) {
  secure_zero(other.schedule_.data(), kScheduleBytes);
}

Aes128& Aes128::operator=(Aes128&& other) noexcept {
  if (this != &other) {
    schedule_ = other.schedule_;
    kernel_ = other.kernel_;
    ledger_ = std::move(other.ledger_);
    secure_zero(other.schedule_.data(), kScheduleBytes);
  }
  return *this;
}

Aes128::~Aes128() { secure_zero(schedule_.data(), kScheduleBytes); }

void Aes128::fill(std::uint64_t stream, std::uint64_t first_block, std::span<std::byte> out) const {
  const std::size_t whole = out.size() / kBlockBytes;
  const std::size_t rest = out.size() % kBlockBytes;
  const std::size_t blocks = whole + (rest != 0 ? 1 : 0);
  if (blocks != 0 && blocks - 1 > ~std::uint64_t{0} - first_block)
    throw Error("E-prg-exhausted", "a draw runs past block 2^64 - 1 of its stream");
  if (ledger_) ledger_->claim(stream, first_block, blocks);
  auto* p = reinterpret_cast<std::uint8_t*>(out.data());
  kernel_->keystream(schedule_.data(), stream, first_block, p, whole);
  if (rest != 0) {
    Block last;
    kernel_->keystream(schedule_.data(), stream, first_block + whole, last.data(), 1);
    std::memcpy(p + whole * kBlockBytes, last.data(), rest);
    secure_zero(last.data(), last.size());
  }
}

void Aes128::fill(std::uint64_t stream, std::uint64_t first_block, std::span<std::byte> out,
                  ThreadPool& pool) const {
  constexpr std::size_t kLeast = std::size_t{1} << 17;  // about 10 us of work for one thread
  const std::size_t grain =
      (pool.grain_for(out.size(), kLeast) + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
  pool.parallel_for(out.size(), grain, [&](std::size_t begin, std::size_t end) {
    // A sum past 2^64 would restart the stream: refuse here, as fill() does for its own range.
    if (begin / kBlockBytes > ~std::uint64_t{0} - first_block)
      throw Error("E-prg-exhausted", "a draw runs past block 2^64 - 1 of its stream");
    fill(stream, first_block + begin / kBlockBytes, out.subspan(begin, end - begin));
  });
}

void Aes128::fill_at(std::uint64_t stream, std::uint64_t offset, std::span<std::byte> out) const {
  std::uint64_t block = offset / kBlockBytes;
  const std::size_t skip = offset % kBlockBytes;
  if (skip != 0 && !out.empty()) {
    std::array<std::byte, kBlockBytes> first;
    fill(stream, block++, first);
    const std::size_t n = std::min(out.size(), kBlockBytes - skip);
    std::memcpy(out.data(), first.data() + skip, n);
    secure_zero(first.data(), first.size());
    out = out.subspan(n);
  }
  fill(stream, block, out);
}

std::array<std::byte, kBlockBytes> Aes128::encrypt(
    std::span<const std::byte, kBlockBytes> block) const {
  std::array<std::byte, kBlockBytes> out;
  kernel_->encrypt_block(schedule_.data(), reinterpret_cast<const std::uint8_t*>(block.data()),
                         reinterpret_cast<std::uint8_t*>(out.data()));
  return out;
}

void Aes128::record_draws(std::string name, unsigned uses) {
  ledger_ = std::make_unique<Ledger>(std::move(name), uses);
}

}  // namespace mpcc::prg

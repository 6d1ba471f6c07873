// The pseudo-random generator of the protocols: AES-128 in counter mode.
//
//   counter block (16 bytes) = stream id, u64 little-endian || block index, u64 little-endian
//   keystream block i of stream s = AES128_K(s || i)
//
// A draw fills its buffer with the stream's bytes from block 0, so byte o of the buffer lies in
// block o / 16. Two holders of a key who fill the same (stream, range) get the same bytes on every
// machine: the variants (bit-sliced, AES-NI, VAES on 256 and 512 bits) are equal bit for bit.
//
// Security: AES-128 as a pseudo-random permutation under distinct counters; a (key, stream, block)
// must never serve two purposes, which follows from how programs and keys are made
// (docs/randomness.md) and is checked at run time where record_draws() asks for it. No variant has
// data-dependent timing: AES instructions have none, and without them AES is computed bit-sliced;
// tables, which leak a key through the cache, occur nowhere.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/cpu.h"
#include "base/thread_pool.h"
#include "prg/ledger.h"

namespace mpcc::prg {

inline constexpr std::size_t kKeyBytes = 16;
inline constexpr std::size_t kBlockBytes = 16;
inline constexpr std::size_t kScheduleBytes = 11 * 16;  // FIPS 197: ten rounds and the first key

// One implementation. `schedule` is the expanded key, 16-byte aligned, in the form of FIPS 197.
struct AesKernel {
  std::string_view name;
  Isa isa;  // the least MPCC_ISA that permits it: scalar is bit-sliced, avx2 has AES-NI and VAES
  Isa vectors;  // what its registers need
  bool needs_aesni;
  bool needs_vaes;
  void (*expand_key)(const std::uint8_t* key, std::uint8_t* schedule);
  // One block; in and out may be the same.
  void (*encrypt_block)(const std::uint8_t* schedule, const std::uint8_t* in, std::uint8_t* out);
  // Writes `blocks` whole keystream blocks.
  void (*keystream)(const std::uint8_t* schedule, std::uint64_t stream, std::uint64_t first_block,
                    std::uint8_t* out, std::size_t blocks);

  // Data rather than a function of the variant's own file: what asks whether the CPU has an
  // instruction set must not be compiled for it.
  bool supported(const CpuFeatures& f) const noexcept {
    return (!needs_aesni || f.aesni) && (!needs_vaes || f.vaes) && f.supports(vectors);
  }
};

// All variants that were built, ascending priority.
std::span<const AesKernel* const> aes_kernels() noexcept;

// The best variant for a CPU, at most `forced` where that is given. There always is one.
const AesKernel& choose_aes_kernel(const CpuFeatures& features, std::optional<Isa> forced) noexcept;

// choose_aes_kernel() for this machine and MPCC_ISA, after the self-tests, once per process, of all
// variants that the machine has. Throws Error("E-prg-self-test") when one of them fails, chosen or
// not (a machine that computes AES wrongly is not to be trusted with more), and the errors of
// forced_isa().
const AesKernel& aes_kernel();

// Known answers (FIPS 197 appendices A.1 and C.1, SP 800-38A F.5.1) and agreement with single-block
// encryption on lengths around the variant's width. Needs a CPU that supports the variant.
bool self_test(const AesKernel& kernel);

// An expanded key. Movable, not copyable; the schedule is overwritten on destruction.
class Aes128 {
 public:
  // Throws what aes_kernel() throws.
  explicit Aes128(std::span<const std::byte, kKeyBytes> key);
  // With a given variant, which the CPU must support.
  Aes128(std::span<const std::byte, kKeyBytes> key, const AesKernel& kernel);
  Aes128(Aes128&& other) noexcept;
  Aes128& operator=(Aes128&& other) noexcept;
  Aes128(const Aes128&) = delete;
  Aes128& operator=(const Aes128&) = delete;
  ~Aes128();

  // out = keystream bytes of `stream` from the start of block `first_block`. Any length; the tail
  // of a last, partial block is discarded. Throws Error("E-prg-exhausted") past block 2^64 - 1.
  void fill(std::uint64_t stream, std::uint64_t first_block, std::span<std::byte> out) const;
  // The same bytes, computed by several threads.
  void fill(std::uint64_t stream, std::uint64_t first_block, std::span<std::byte> out,
            ThreadPool& pool) const;
  // out = keystream bytes [offset, offset + out.size()) of the stream; any offset.
  void fill_at(std::uint64_t stream, std::uint64_t offset, std::span<std::byte> out) const;

  // AES128_K(block): the raw permutation, for known-answer tests.
  std::array<std::byte, kBlockBytes> encrypt(std::span<const std::byte, kBlockBytes> block) const;

  // From here on every block may be drawn `uses` times, once by each holder of the key in this
  // process; one time more is Error("E-prg-reuse") from fill(). `name` is for that error.
  void record_draws(std::string name, unsigned uses = 1);

  const AesKernel& kernel() const noexcept { return *kernel_; }

 private:
  alignas(64) std::array<std::uint8_t, kScheduleBytes> schedule_;
  const AesKernel* kernel_;
  std::unique_ptr<Ledger> ledger_;
};

}  // namespace mpcc::prg

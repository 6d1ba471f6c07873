// prg_bench: keystream speed of every variant in GB/s (10^9 bytes), one thread.
#include <chrono>
#include <cstdio>
#include <vector>

#include "prg/aes.h"

int main() {
  using Clock = std::chrono::steady_clock;
  const std::vector<std::byte> key_bytes(16, std::byte{7});
  std::printf("%-8s %12s %12s %12s\n", "variant", "16 KiB", "512 KiB", "64 MiB");
  for (const mpcc::prg::AesKernel* kernel : mpcc::prg::aes_kernels()) {
    if (!kernel->supported(mpcc::cpu_features())) continue;
    const mpcc::prg::Aes128 key(std::span<const std::byte, 16>(key_bytes), *kernel);
    std::printf("%-8s", kernel->name.data());
    for (const std::size_t bytes :
         {std::size_t{16} << 10, std::size_t{512} << 10, std::size_t{64} << 20}) {
      std::vector<std::byte> out(bytes);
      key.fill(0, 0, out);
      double best = 1e9;
      for (int trial = 0; trial < 5; ++trial) {
        const std::size_t repeats = (std::size_t{1} << 28) / bytes;
        const auto start = Clock::now();
        for (std::size_t i = 0; i < repeats; ++i) key.fill(i, 0, out);
        const double s = std::chrono::duration<double>(Clock::now() - start).count();
        best = std::min(best, s / static_cast<double>(repeats));
      }
      std::printf(" %12.2f", static_cast<double>(bytes) / best / 1e9);
    }
    std::printf("\n");
  }
}

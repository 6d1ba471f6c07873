// A cluster's configuration file.
#include "fuzz/common.h"
#include "graph/session.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const mpcc::fuzz::MemoryFile file(data, size);
  for (const std::uint32_t index : {0U, 3U, 0xffffffffU})
    mpcc::fuzz::accepts([&] {
      const auto config = mpcc::graph::read_config(file.path(), index);
      MPCC_FUZZ_CHECK(index < config.endpoints.size());
      MPCC_FUZZ_CHECK(config.threads >= 1);
      MPCC_FUZZ_CHECK(config.deadline.count() >= 0 && config.idle.count() >= 0);
    });
  return 0;
}

// An artifact file: the zip container, the manifest and the hash of the program. Its own mutation
// changes one entry and packs the file again, with the right hash most of the time, so that what
// lies behind checksums and hashes is reached.
#include "graph/artifact.h"

#include <zip.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "fuzz/common.h"
#include "graph/program.h"
#include "net/keys.h"
#include "testing/random.h"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace mpcc::fuzz {
namespace {

struct Entry {
  std::string name;
  std::string data;
};

// Empty if the bytes are no archive, or one with large entries.
std::vector<Entry> unpack(const std::uint8_t* data, std::size_t size) {
  std::vector<Entry> entries;
  zip_source_t* source = zip_source_buffer_create(data, size, 0, nullptr);
  if (source == nullptr) return entries;
  zip_t* archive = zip_open_from_source(source, ZIP_RDONLY, nullptr);
  if (archive == nullptr) {
    zip_source_free(source);
    return entries;
  }
  const auto n = std::min<zip_int64_t>(zip_get_num_entries(archive, 0), 16);
  for (zip_int64_t i = 0; i < n; ++i) {
    const auto index = static_cast<zip_uint64_t>(i);
    const char* name = zip_get_name(archive, index, ZIP_FL_ENC_RAW);
    zip_file_t* file = zip_fopen_index(archive, index, 0);
    if (name == nullptr || file == nullptr) {
      if (file != nullptr) zip_fclose(file);
      continue;
    }
    std::string content(1 << 16, '\0');
    const auto got = zip_fread(file, content.data(), content.size());
    content.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    zip_fclose(file);
    entries.push_back({name, std::move(content)});
  }
  zip_discard(archive);
  return entries;
}

std::string pack(const std::vector<Entry>& entries, bool compress) {
  std::string out;
  zip_source_t* target = zip_source_buffer_create(nullptr, 0, 0, nullptr);
  if (target == nullptr) return out;
  zip_source_keep(target);
  zip_t* archive = zip_open_from_source(target, ZIP_TRUNCATE, nullptr);
  if (archive == nullptr) {
    zip_source_free(target);
    zip_source_free(target);
    return out;
  }
  for (const Entry& entry : entries) {
    zip_source_t* source = zip_source_buffer(archive, entry.data.data(), entry.data.size(), 0);
    const auto index = zip_file_add(archive, entry.name.c_str(), source, 0);
    if (index < 0)
      zip_source_free(source);
    else
      zip_set_file_compression(archive, static_cast<zip_uint64_t>(index),
                               compress ? ZIP_CM_DEFLATE : ZIP_CM_STORE, 0);
  }
  if (zip_close(archive) != 0) {
    zip_discard(archive);
  } else if (zip_source_open(target) == 0) {
    zip_stat_t stat;
    zip_stat_init(&stat);
    if (zip_source_stat(target, &stat) == 0 && (stat.valid & ZIP_STAT_SIZE) != 0) {
      out.resize(stat.size);
      const auto got = zip_source_read(target, out.data(), out.size());
      out.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    }
    zip_source_close(target);
  }
  zip_source_free(target);
  return out;
}

// Writes the hash of the program into the manifest, where it has one.
void bind(std::vector<Entry>& entries) {
  constexpr std::string_view kKey = "\"program_sha256\"";
  constexpr char kDigits[] = "0123456789abcdef";
  const auto named = [&](std::string_view name) {
    return std::ranges::find_if(entries, [&](const Entry& e) { return e.name == name; });
  };
  const auto manifest = named("manifest.json");
  const auto program = named("program.pb");
  if (manifest == entries.end() || program == entries.end()) return;
  std::size_t at = manifest->data.find(kKey);
  if (at == std::string::npos) return;
  at = manifest->data.find('"', at + kKey.size());
  if (at == std::string::npos || manifest->data.size() - at < 66) return;
  const auto hash = net::sha256(std::as_bytes(std::span(program->data)));
  for (std::size_t i = 0; i < hash.size(); ++i) {
    const auto byte = static_cast<unsigned>(hash[i]);
    manifest->data[at + 1 + 2 * i] = kDigits[byte >> 4];
    manifest->data[at + 2 + 2 * i] = kDigits[byte & 15];
  }
}

void mutate_text(std::string& text) {
  std::vector<std::uint8_t> bytes(text.begin(), text.end());
  const std::size_t size = bytes.size();
  bytes.resize(size + 256);
  bytes.resize(LLVMFuzzerMutate(bytes.data(), size, bytes.size()));
  text.assign(bytes.begin(), bytes.end());
}

}  // namespace
}  // namespace mpcc::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const mpcc::fuzz::MemoryFile file(data, size);
  mpcc::fuzz::accepts([&] {
    const auto artifact = mpcc::graph::read_artifact(file.path());
    MPCC_FUZZ_CHECK(artifact.protocol.size() <= 100);
    (void)mpcc::graph::load_program(artifact.program);
  });
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned seed) {
  mpcc::testing::TestRandom random(seed);
  auto entries = mpcc::fuzz::unpack(data, size);
  if (entries.empty() || random.below(4) == 0) return LLVMFuzzerMutate(data, size, max_size);
  auto& entry = entries[random.below(2) == 0 ? 0 : random.below(entries.size())];
  switch (random.below(10)) {
    case 0:
      std::swap(entry, entries[random.below(entries.size())]);
      break;
    case 1:
      entries.pop_back();
      break;
    case 2:
      entries.push_back({entry.name + "x", entry.data});
      break;
    case 3:
      mpcc::fuzz::mutate_text(entry.name);
      break;
    default:
      mpcc::fuzz::mutate_text(entry.data);
  }
  if (random.below(8) != 0) mpcc::fuzz::bind(entries);
  const std::string out = mpcc::fuzz::pack(entries, random.below(2) == 0);
  if (out.empty() || out.size() > max_size) return LLVMFuzzerMutate(data, size, max_size);
  std::ranges::copy(out, data);
  return out.size();
}

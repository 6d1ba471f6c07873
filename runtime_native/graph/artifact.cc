#include "graph/artifact.h"

#include <zip.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/error.h"
#include "kernels/limits.h"
#include "net/keys.h"

namespace mpcc::graph {
namespace {

constexpr std::int64_t kFormat = 3;
constexpr std::int64_t kWithoutCalls = 2;

struct Entry {
  std::string_view name;
  std::uint64_t most;
};
constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::array<Entry, 5> kEntries = {{{"manifest.json", 16 * kMiB},
                                            {"tensor.mpcc", 256 * kMiB},
                                            {"secure.mpcc", 256 * kMiB},
                                            {"program.pb", kMaxProgramBytes},
                                            {"cost.json", 64 * kMiB}}};

// Behind the others where owners of inputs compute with public weights; parties do not read it.
constexpr std::string_view kPublic = "public.safetensors";

// Bytes of a zip's end record and of the locator that stands before it in a zip64; most bytes of
// the directory of five short names.
constexpr std::size_t kEndBytes = 22;
constexpr std::size_t kLocatorBytes = 20;
constexpr std::uint32_t kMaxDirectory = 4096;
constexpr int kMaxManifestDepth = 64;

struct CloseArchive {
  void operator()(zip_t* p) const { zip_discard(p); }
};
struct CloseFile {
  void operator()(zip_file_t* p) const { zip_fclose(p); }
};

class Reader {
 public:
  explicit Reader(const std::string& path) : path_(path) {
    check_end();
    int code = 0;
    zip_.reset(zip_open(path.c_str(), ZIP_RDONLY | ZIP_CHECKCONS, &code));
    if (!zip_) {
      zip_error_t error;
      zip_error_init_with_code(&error, code);
      const std::string reason = zip_error_strerror(&error);
      zip_error_fini(&error);
      fail("E-artifact", "cannot be read as an artifact: " + reason);
    }
    const auto n = static_cast<zip_uint64_t>(zip_get_num_entries(zip_.get(), 0));
    if (n != kEntries.size() && n != kEntries.size() + 1) fail("E-artifact", "has other entries");
    for (zip_uint64_t i = 0; i < n; ++i) {
      const char* name = zip_get_name(zip_.get(), i, ZIP_FL_ENC_RAW);
      const std::string_view wanted = i < kEntries.size() ? kEntries[i].name : kPublic;
      if (name == nullptr || wanted != name) fail("E-artifact", "has other entries");
    }
  }

  // Libraries read the whole directory of a zip when they open it: whether it is that of an
  // artifact is known before, from the record at the very end.
  void check_end() const {
    std::ifstream file(path_, std::ios::binary);
    if (!file) fail("E-artifact", "cannot be read as an artifact: no such file, or not readable");
    std::array<unsigned char, kLocatorBytes + kEndBytes> tail{};
    file.seekg(0, std::ios::end);
    const std::streamoff size = file.tellg();
    if (size < static_cast<std::streamoff>(tail.size())) fail("E-artifact", "is too short");
    file.seekg(size - static_cast<std::streamoff>(tail.size()));
    file.read(reinterpret_cast<char*>(tail.data()), static_cast<std::streamsize>(tail.size()));
    if (!file) fail("E-artifact", "cannot be read");
    const std::string_view text(reinterpret_cast<const char*>(tail.data()), tail.size());
    const unsigned char* end = tail.data() + kLocatorBytes;
    const auto number = [&](std::size_t at, std::size_t bytes) {
      std::uint32_t n = 0;
      for (std::size_t i = bytes; i-- > 0;) n = n << 8 | end[at + i];
      return n;
    };
    using namespace std::string_view_literals;
    if (text.substr(kLocatorBytes, 4) != "PK\5\6"sv || number(20, 2) != 0)
      fail("E-artifact", "does not end as an artifact does");
    if (text.starts_with("PK\6\7"sv)) fail("E-artifact", "is a zip64 file");
    const std::size_t count = number(8, 2);
    if (count != number(10, 2) || (count != kEntries.size() && count != kEntries.size() + 1))
      fail("E-artifact", "has other entries");
    if (number(12, 4) > kMaxDirectory)
      fail("E-artifact-size", "has a directory of " + std::to_string(number(12, 4)) +
                                  " bytes, allowed are " + std::to_string(kMaxDirectory));
  }

  [[noreturn]] void fail(const char* code, const std::string& what) const {
    throw Error(code, what, path_);
  }

  std::vector<std::byte> read(std::size_t index) const {
    const Entry& entry = kEntries[index];
    zip_stat_t stat;
    zip_stat_init(&stat);
    if (zip_stat_index(zip_.get(), index, 0, &stat) != 0 || (stat.valid & ZIP_STAT_SIZE) == 0)
      fail("E-artifact", "no size of " + std::string(entry.name));
    if (stat.size > entry.most)
      fail("E-artifact-size", std::string(entry.name) + " announces " + std::to_string(stat.size) +
                                  " bytes, allowed are " + std::to_string(entry.most));
    if ((stat.valid & ZIP_STAT_COMP_METHOD) != 0 && stat.comp_method != ZIP_CM_STORE &&
        stat.comp_method != ZIP_CM_DEFLATE)
      fail("E-artifact", std::string(entry.name) + " is compressed by another method");
    if ((stat.valid & ZIP_STAT_ENCRYPTION_METHOD) != 0 && stat.encryption_method != ZIP_EM_NONE)
      fail("E-artifact", std::string(entry.name) + " is encrypted");
    const std::unique_ptr<zip_file_t, CloseFile> file(zip_fopen_index(zip_.get(), index, 0));
    if (!file) fail("E-artifact", "cannot open " + std::string(entry.name));
    // In pieces: what is announced is not reserved before it is there.
    std::vector<std::byte> data;
    std::array<std::byte, 1 << 16> piece;
    for (;;) {
      const auto n = zip_fread(file.get(), piece.data(), piece.size());
      if (n < 0) fail("E-artifact", std::string(entry.name) + " is damaged");
      if (n == 0) break;
      if (data.size() + static_cast<std::size_t>(n) > stat.size)
        fail("E-artifact-size", std::string(entry.name) + " is larger than announced");
      data.insert(data.end(), piece.begin(), piece.begin() + n);
    }
    if (data.size() != stat.size) fail("E-artifact", std::string(entry.name) + " is cut short");
    return data;
  }

 private:
  std::string path_;
  std::unique_ptr<zip_t, CloseArchive> zip_;
};

// Whether lists and objects are nested deeper than any manifest; brackets in texts do not count.
bool too_deep(std::string_view json) {
  int depth = 0;
  bool quoted = false;
  for (std::size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (quoted) {
      if (c == '\\') ++i;
      if (c == '"') quoted = false;
      continue;
    }
    quoted = c == '"';
    depth += (c == '[' || c == '{') - (c == ']' || c == '}');
    if (depth > kMaxManifestDepth) return true;
  }
  return false;
}

std::string hex(std::span<const std::byte> bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const std::byte b : bytes) {
    text += kDigits[static_cast<unsigned>(b) >> 4];
    text += kDigits[static_cast<unsigned>(b) & 15];
  }
  return text;
}

}  // namespace

Artifact read_artifact(const std::string& path) {
  const Reader reader(path);
  const auto manifest = reader.read(0);
  const auto* text = reinterpret_cast<const char*>(manifest.data());
  if (too_deep({text, manifest.size()})) reader.fail("E-artifact-manifest", "nested too deeply");
  const auto json = nlohmann::json::parse(text, text + manifest.size(), nullptr, false);
  if (!json.is_object()) reader.fail("E-artifact-manifest", "the manifest is not a JSON object");
  const auto string_at = [&](const char* key) {
    const auto found = json.find(key);
    if (found == json.end() || !found->is_string())
      reader.fail("E-artifact-manifest", std::string("no text at ") + key);
    return found->get<std::string>();
  };
  const auto format = json.find("format");
  if (format == json.end() || !format->is_number_integer())
    reader.fail("E-artifact-manifest", "no format version");
  if (const auto found = format->get<std::int64_t>(); found != kFormat && found != kWithoutCalls)
    reader.fail("E-artifact-version",
                "format " + std::to_string(found) + "; this program reads formats " +
                    std::to_string(kWithoutCalls) + " and " + std::to_string(kFormat));
  Artifact artifact;
  artifact.protocol = string_at("protocol").substr(0, 100);
  artifact.program = reader.read(3);
  if (hex(net::sha256(artifact.program)) != string_at("program_sha256"))
    reader.fail("E-artifact-hash", "the program is not the one that was written");
  return artifact;
}

}  // namespace mpcc::graph

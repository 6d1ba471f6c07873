#include "graph/report.h"

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace mpcc::graph {
namespace {

using nlohmann::json;

// A pebibyte: beyond it, sums and whoever shows them might wrap.
constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 50;

[[noreturn]] void refuse(const std::string& what) {
  throw Error("E-net-frame", "its report is refused: " + what);
}

// get<>() would convert whatever number is there, modulo the size of its type.
std::uint64_t number_at(const json& object, const char* key, std::uint64_t most) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number_unsigned() || found->get<std::uint64_t>() > most)
    refuse(std::string(key) + " is no integer from 0 to " + std::to_string(most));
  return found->get<std::uint64_t>();
}

}  // namespace

PhaseReport read_report(std::span<const std::byte> text, const Program& program,
                        const std::set<Place>& places, bool online) {
  const auto* at = reinterpret_cast<const char*>(text.data());
  const json j = json::parse(at, at + text.size(), nullptr, false);
  if (!j.is_object()) refuse("not a JSON object");
  PhaseReport known;
  for (const Message& m : program.messages) {
    if (m.online != online || !places.contains(m.from)) continue;
    known.bytes_sent[link_name(m.from, m.to)] += m.bytes;
    ++known.messages;
  }
  const auto sent = j.find("bytes_sent");
  if (sent == j.end() || !sent->is_object()) refuse("no bytes_sent");
  PhaseReport report;
  for (const auto& [link, bytes] : known.bytes_sent)
    report.bytes_sent[link] = number_at(*sent, link.c_str(), bytes);
  report.messages = number_at(j, "messages", known.messages);
  if (sent->size() != known.bytes_sent.size() || report.bytes_sent != known.bytes_sent ||
      report.messages != known.messages)
    refuse("it did not send what the program says");
  report.rounds = static_cast<std::uint32_t>(number_at(j, "rounds", program.rounds(online)));
  report.rss_bytes = number_at(j, "rss", kMostBytes);
  report.wire_bytes = number_at(j, "wire", kMostBytes);
  return report;
}

}  // namespace mpcc::graph

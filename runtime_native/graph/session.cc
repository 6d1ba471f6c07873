#include "graph/session.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/checked.h"
#include "base/error.h"
#include "net/blame.h"
#include "net/shaped.h"

namespace mpcc::graph {
namespace {

using nlohmann::json;

constexpr std::uintmax_t kMaxConfigBytes = 1 << 20;
constexpr std::int64_t kMaxThreads = 1024;  // as ThreadPool

}  // namespace

ClusterConfig read_config(const std::string& path, std::uint32_t index) {
  const auto fail = [&](const std::string& what) { throw Error("E-config", what, path); };
  std::ifstream file(path, std::ios::binary);
  if (!file) fail("cannot be opened");
  std::error_code ignored;
  if (std::filesystem::file_size(path, ignored) > kMaxConfigBytes) fail("is too large");
  const json root = json::parse(file, nullptr, false);
  if (!root.is_object()) fail("is not a JSON object");
  const std::filesystem::path base = std::filesystem::path(path).parent_path();
  const auto resolve = [&](const std::string& p) { return (base / p).string(); };
  // get<>() would convert whatever number is there, modulo the size of its type.
  const auto integer = [&](const json& object, const char* key, std::int64_t least,
                           std::int64_t most, std::int64_t otherwise) {
    if (!object.contains(key)) return otherwise;
    const json& value = object.at(key);
    const bool small =
        value.is_number_unsigned()
            ? value.get<std::uint64_t>() <= std::uint64_t{std::numeric_limits<std::int64_t>::max()}
            : value.is_number_integer();
    const std::int64_t n = small ? value.get<std::int64_t>() : least - 1;
    if (n < least || n > most)
      fail(std::string(key) + " must be an integer from " + std::to_string(least) + " to " +
           std::to_string(most));
    return n;
  };
  ClusterConfig config;
  try {
    for (const json& e : root.at("endpoints")) {
      net::TlsEndpoint endpoint;
      e.at("name").get_to(endpoint.name);
      e.at("places").get_to(endpoint.places);
      endpoint.host = e.value("host", "");
      endpoint.port = narrow<std::uint16_t>(integer(e, "port", 0, 65535, 0));
      config.endpoints.push_back(std::move(endpoint));
    }
    if (index >= config.endpoints.size()) fail("has no endpoint " + std::to_string(index));
    const json& own = root.at("endpoints")[index];
    config.ca = resolve(root.at("ca").get<std::string>());
    const auto identity = [&](const char* key) {
      return resolve(own.contains(key) ? own.at(key).get<std::string>()
                                       : root.at(key).get<std::string>());
    };
    config.certificate = identity("cert");
    config.private_key = identity("key");
    if (own.contains("trace")) config.trace = resolve(own.at("trace").get<std::string>());
    const auto duration = [&](const char* key, net::Duration& to) {
      if (!root.contains(key)) return;
      const double s = root.at(key).get<double>();
      if (!(s > 0 && s < 1e8)) fail(std::string(key) + " must be a positive number of seconds");
      to = std::chrono::duration_cast<net::Duration>(std::chrono::duration<double>(s));
    };
    duration("deadline_s", config.deadline);
    duration("connect_deadline_s", config.connect_deadline);
    duration("idle_s", config.idle);
    duration("run_limit_s", config.run_limit);
    config.network = root.value("network", config.network);
    config.threads = narrow<int>(integer(root, "threads", 1, kMaxThreads, config.threads));
    (void)net::network_profile(config.network);
    const auto limit = [&](const char* key, std::uint64_t& to) {
      to = narrow<std::uint64_t>(integer(root, key, 1, std::numeric_limits<std::int64_t>::max(),
                                         static_cast<std::int64_t>(to)));
    };
    limit("max_memory", config.limits.max_memory);
    limit("max_work", config.limits.max_work);
    limit("least_rate", config.least_rate);
  } catch (const json::exception& error) {
    fail(error.what());
  }
  return config;
}

std::string error_line(const Error& error, const std::string& reporter) {
  const auto blame = net::find_blame(error);
  const json line = {{"error",
                      {{"code", error.code()},
                       {"message", error.message()},
                       {"where", error.where()},
                       {"reporter", reporter},
                       {"party", blame ? blame->party : reporter},
                       {"step", blame ? blame->step : std::string("starting")}}}};
  // Names of files and peers need not be UTF-8.
  return line.dump(-1, ' ', true, json::error_handler_t::replace);
}

std::unique_ptr<net::Transport> connect(const Program& program, const ClusterConfig& config,
                                        std::uint32_t index,
                                        std::shared_ptr<net::Listener> listener) {
  net::TlsConfig tls{.self = index,
                     .endpoints = config.endpoints,
                     .ca = net::Pem::file(config.ca),
                     .certificate = net::Pem::file(config.certificate),
                     .private_key = net::Pem::file(config.private_key),
                     .program = program.hash,
                     .options = {},
                     .connect_deadline = config.connect_deadline,
                     .listener = std::move(listener)};
  tls.options.deadline = config.deadline;
  tls.options.least_rate = config.least_rate;
  tls.options.run_limit = config.run_limit;
  tls.options.queue_bytes = config.limits.queue_bytes;
  tls.options.ahead_bytes = config.limits.ahead_bytes;
  tls.options.step_name = step_names(program);
  if (config.network != "none")
    tls.options.decorate = net::shaped(net::network_profile(config.network));
  return net::connect_tls(tls);
}

Plan plan_of(const Program& program, const ClusterConfig& config, std::uint32_t index) {
  std::vector<net::EndpointInfo> endpoints;
  for (const auto& e : config.endpoints) endpoints.push_back({e.name, e.places});
  return make_plan(program, endpoints, index, {.threads = config.threads, .limits = config.limits});
}

Session::Session(std::span<const std::byte> program, const ClusterConfig& config,
                 std::uint32_t index, std::shared_ptr<net::Listener> listener)
    : program_(std::make_unique<Program>(load_program(program))), trace_(config.trace) {
  check_randomness();
  // A program that cannot run here is refused before anybody is called.
  (void)plan_of(*program_, config, index);
  transport_ = connect(*program_, config, index, std::move(listener));
  engine_ = std::make_unique<Engine>(*program_, *transport_,
                                     EngineOptions{.threads = config.threads,
                                                   .deadline = config.deadline,
                                                   .idle = config.idle,
                                                   .limits = config.limits,
                                                   .trace = !config.trace.empty()});
}

Session::~Session() {
  if (trace_.empty()) return;
  try {
    std::ofstream(trace_, std::ios::binary) << engine_->trace_json();
  } catch (const std::exception&) {
    // Nobody is left to hear of it; whoever wanted the file finds none, or a cut one.
  }
}

void Session::interrupt(const std::string& reason) { transport_->abort("session", reason); }

}  // namespace mpcc::graph

// Python module mpcc._native: the engine for tests and for the owner's side of `mpcc run`.
//
// Errors arrive in Python as mpcc._native.NativeError(code, message, where). The interpreter lock
// is released while anything runs. Nothing here prints, and no object shows a value in its repr.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <chrono>
#include <cstring>
#include <future>
#include <limits>

#include "base/cpu.h"
#include "base/error.h"
#include "graph/artifact.h"
#include "graph/cluster.h"
#include "graph/session.h"
#include "kernels/kernel.h"
#include "net/keys.h"
#include "net/shaped.h"
#include "prg/aes.h"
#include "ring/gemm/gemm.h"
#include "ring/gemm/kernel.h"

namespace nb = nanobind;

namespace mpcc {
namespace {

// Buffers by name. The arrays are kept alive by the caller's dict.
using Array = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;
using Arrays = std::map<std::string, Array>;

graph::Tensors views(const Arrays& arrays) {
  graph::Tensors out;
  for (const auto& [name, a] : arrays)
    out.emplace(name, std::span(static_cast<const std::byte*>(a.data()), a.nbytes()));
  return out;
}

std::span<const std::byte> bytes_of(const nb::bytes& b) {
  return {reinterpret_cast<const std::byte*>(b.c_str()), b.size()};
}

nb::object numpy_array(const graph::Output& output) {
  auto* copy = new std::vector<float>(output.values);
  nb::capsule owner(copy, [](void* p) noexcept { delete static_cast<std::vector<float>*>(p); });
  std::vector<std::size_t> shape(output.shape.begin(), output.shape.end());
  return nb::cast(nb::ndarray<nb::numpy, float>(copy->data(), shape.size(), shape.data(), owner));
}

nb::dict output_dict(const std::vector<graph::Output>& outputs) {
  nb::dict d;
  for (const auto& o : outputs) d[o.name.c_str()] = numpy_array(o);
  return d;
}

// Runs f on another thread while this one looks for Ctrl-C; then `interrupt` must make f return.
template <class F, class Interrupt>
void with_signals(F&& f, Interrupt&& interrupt) {
  bool interrupted = false;
  std::exception_ptr error;
  {
    auto done = [&] {
      const nb::gil_scoped_release release;
      return std::async(std::launch::async, std::forward<F>(f));
    }();
    for (;;) {
      {
        const nb::gil_scoped_release release;
        if (done.wait_for(std::chrono::milliseconds(50)) == std::future_status::ready) break;
      }
      if (!interrupted && PyErr_CheckSignals() != 0) {
        interrupted = true;
        const nb::gil_scoped_release release;
        interrupt();
      }
    }
    try {
      done.get();
    } catch (...) {
      error = std::current_exception();
    }
  }
  if (interrupted) throw nb::python_error();
  if (error) std::rethrow_exception(error);
}

// The owner's end of a session over TLS: client and model in one endpoint.
class OwnerEndpoint {
 public:
  OwnerEndpoint(const nb::bytes& program, const std::string& config_path, std::uint32_t index) {
    const auto data = bytes_of(program);
    const nb::gil_scoped_release release;
    session_ =
        std::make_unique<graph::Session>(data, graph::read_config(config_path, index), index);
  }

  void setup(const Arrays& weights) {
    const auto tensors = views(weights);
    run_with_signals([&] { engine().setup(tensors); });
  }

  nb::dict run(const Arrays& inputs) {
    const auto tensors = views(inputs);
    std::vector<graph::Output> outputs;
    run_with_signals([&] { outputs = engine().run(tensors); });
    return output_dict(outputs);
  }

  std::string statistics() const { return session().engine().statistics().json(); }

  void close() {
    if (!session_) return;
    const nb::gil_scoped_release release;
    session_->engine().close();
  }

 private:
  graph::Session& session() const {
    if (!session_) throw Error("E-engine-usage", "the session is closed");
    return *session_;
  }
  graph::Engine& engine() const { return session().engine(); }
  template <class F>
  void run_with_signals(F&& f) {
    with_signals(std::forward<F>(f), [this] { session_->interrupt("interrupted by its user"); });
  }

  std::unique_ptr<graph::Session> session_;
};

nb::bytes artifact_program(const std::string& path) {
  const auto artifact = graph::read_artifact(path);
  return nb::bytes(reinterpret_cast<const char*>(artifact.program.data()), artifact.program.size());
}

nb::tuple run_in_memory(const nb::bytes& program_bytes, const Arrays& weights,
                        const std::vector<Arrays>& inputs, std::optional<std::uint64_t> seed,
                        int threads, double deadline, const std::string& network,
                        std::optional<std::uint64_t> max_memory,
                        std::optional<std::uint64_t> max_work,
                        std::optional<std::uint64_t> ahead_bytes) {
  graph::ClusterResult result;
  const auto data = bytes_of(program_bytes);
  {
    const nb::gil_scoped_release release;
    const graph::Program program = graph::load_program(data);
    net::TransportOptions options;
    options.deadline =
        std::chrono::duration_cast<net::Duration>(std::chrono::duration<double>(deadline));
    if (network != "none") options.decorate = net::shaped(net::network_profile(network));
    graph::EngineOptions engine{.threads = threads};
    if (max_memory) engine.limits.max_memory = *max_memory;
    if (max_work) engine.limits.max_work = *max_work;
    if (ahead_bytes) engine.limits.ahead_bytes = *ahead_bytes;
    graph::InMemoryCluster cluster(program, engine, options,
                                   seed ? std::optional(net::FixedSeed{*seed}) : std::nullopt);
    std::vector<graph::Tensors> runs;
    for (const auto& x : inputs) runs.push_back(views(x));
    result = cluster.run(views(weights), runs);
  }
  nb::list outputs;
  for (const auto& o : result.outputs) outputs.append(output_dict(o));
  return nb::make_tuple(outputs, result.statistics.json());
}

// One op of a program on given operands, for comparing kernels with their numpy reference. Operands
// are bytes in the layout of their types; draws take their keys by name.
nb::list evaluate_op(const nb::bytes& program_bytes, std::uint32_t index,
                     const std::vector<nb::bytes>& operands,
                     const std::map<std::string, nb::bytes>& keys, const std::string& isa,
                     int threads) {
  const graph::Program program = graph::load_program(bytes_of(program_bytes));
  if (index >= program.ops.size()) throw Error("E-kernel-usage", "no such op");
  const Op& op = program.ops[index];
  std::vector<ValueType> types;
  for (const std::uint32_t v : op.operands) types.push_back(program.values[v]);
  if (operands.size() != types.size()) throw Error("E-kernel-usage", "wrong number of operands");
  std::vector<SecretBuffer> in_buffers;
  std::vector<const std::byte*> in;
  for (std::size_t i = 0; i < operands.size(); ++i) {
    if (operands[i].size() != types[i].bytes())
      throw Error("E-kernel-usage", "an operand has another size than " + types[i].str());
    in_buffers.emplace_back(operands[i].size());
    if (operands[i].size() != 0)
      std::memcpy(in_buffers.back().data(), operands[i].c_str(), operands[i].size());
    in.push_back(in_buffers.back().data());
  }
  std::vector<SecretBuffer> out_buffers;
  std::vector<std::byte*> out;
  for (const ValueType& t : op.types) {
    out_buffers.emplace_back(t.bytes());
    out.push_back(out_buffers.back().data());
  }
  const kernels::BlockVariant* variant = nullptr;
  for (const auto* v : kernels::block_variants())
    if (isa.empty() ? v == &kernels::block_variant() : v->name == isa) variant = v;
  if (variant == nullptr || !variant->supported(cpu_features()))
    throw Error("E-isa-unsupported", "no block kernels " + isa + " on this machine");
  ThreadPool pool(threads);
  if (!kernels::has_kernel(op)) throw Error("E-kernel-usage", "an op without a kernel");
  kernels::Kernel kernel(op, types, std::vector<bool>(types.size(), false), *variant);
  std::vector<prg::Aes128> expanded;
  expanded.reserve(kernel.keys().size());
  std::vector<const prg::Aes128*> held;
  for (const auto& key : kernel.keys()) {
    const auto found = keys.find(key.holders);
    if (found == keys.end() || found->second.size() != 16)
      throw Error("E-kernel-usage", "no 16-byte key " + key.holders);
    expanded.emplace_back(bytes_of(found->second).first<16>());
    held.push_back(&expanded.back());
  }
  kernel.run(in, out, held, pool);
  nb::list results;
  for (const auto& b : out_buffers)
    results.append(nb::bytes(reinterpret_cast<const char*>(b.data()), b.size()));
  return results;
}

// Phases, depths, messages and orders as the engine computes them.
nb::dict describe_program(const nb::bytes& program_bytes, int threads) {
  const graph::Program p = graph::load_program(bytes_of(program_bytes));
  nb::list steps;
  for (const auto& s : p.steps)
    steps.append(nb::make_tuple(std::string(place_name(s.place)),
                                std::string(s.online ? "online" : "setup"), s.depth));
  nb::list messages;
  for (const auto& m : p.messages)
    messages.append(nb::make_tuple(m.id, m.op, std::string(place_name(m.from)),
                                   std::string(place_name(m.to)), m.bytes, m.depth,
                                   std::string(m.online ? "online" : "setup")));
  nb::dict orders;
  for (std::size_t i = 0; i < kPlaces; ++i)
    if (!p.order[i].empty())
      orders[std::string(place_name(static_cast<Place>(i))).c_str()] = nb::cast(p.order[i]);
  nb::list plans;
  const auto endpoints = graph::default_endpoints();
  for (std::uint32_t e = 0; e < endpoints.size(); ++e) {
    graph::PlanOptions options{.threads = threads};
    // What it needs is the question here; who runs it sets the limits.
    options.limits.max_memory = options.limits.max_work = std::numeric_limits<std::uint64_t>::max();
    const graph::Plan plan = graph::make_plan(p, endpoints, e, options);
    nb::dict d;
    d["name"] = endpoints[e].name;
    d["peak_bytes"] = plan.peak_bytes();
    d["persistent_bytes"] = plan.persistent_bytes;
    d["arena_bytes"] = plan.online.arena_bytes;
    d["outgoing_bytes"] = plan.online.outgoing_bytes;
    d["message_bytes"] = plan.online.message_bytes;
    d["setup_outgoing_bytes"] = plan.setup.outgoing_bytes;
    d["setup_message_bytes"] = plan.setup.message_bytes;
    d["packed_bytes"] = plan.packed_bytes;
    d["scratch_bytes"] = plan.scratch_bytes;
    d["transport_bytes"] = plan.transport_bytes;
    d["temporary_bytes"] = plan.online.temporary_bytes;
    d["setup_work"] = plan.setup.work;
    d["online_work"] = plan.online.work;
    d["largest_memory"] = p.describe(plan.largest_memory.op);
    d["largest_work"] = p.describe(plan.largest_work.op);
    d["actions"] = plan.online.actions.size();
    plans.append(d);
  }
  nb::dict out;
  out["steps"] = steps;
  out["messages"] = messages;
  out["orders"] = orders;
  out["plans"] = plans;
  return out;
}

nb::dict cpu_info() {
  nb::dict d;
  d["features"] = cpu_features().describe();
  d["isa"] = std::string(isa_name(chosen_isa()));
  d["block"] = std::string(kernels::block_variant().name);
  d["gemm"] = std::string(ring::gemm_kernel<std::uint64_t>().name);
  d["prg"] = std::string(prg::aes_kernel().name);
  nb::list variants;
  for (const auto* v : kernels::block_variants())
    if (v->supported(cpu_features())) variants.append(std::string(v->name));
  d["block_variants"] = variants;
  return d;
}

}  // namespace
}  // namespace mpcc

NB_MODULE(_native, m) {
  using namespace nb::literals;
  m.doc() = "The native engine of mpcc.";

  static nb::object native_error = nb::steal(PyErr_NewExceptionWithDoc(
      "mpcc._native.NativeError", "An error of the native engine; args are (code, message, where).",
      PyExc_RuntimeError, nullptr));
  m.attr("NativeError") = native_error;
  nb::register_exception_translator([](const std::exception_ptr& p, void*) {
    try {
      std::rethrow_exception(p);
    } catch (const mpcc::Error& e) {
      // What a file or a peer says goes into errors and need not be UTF-8.
      const auto text = [](const std::string& s) {
        return nb::steal(
            PyUnicode_DecodeUTF8(s.data(), static_cast<Py_ssize_t>(s.size()), "replace"));
      };
      const nb::object code = text(e.code());
      const nb::object message = text(e.message());
      const nb::object where = text(e.where());
      if (!code.is_valid() || !message.is_valid() || !where.is_valid()) return;  // out of memory
      const nb::object args = nb::make_tuple(code, message, where);
      PyErr_SetObject(native_error.ptr(), args.ptr());
    }
  });

  m.def(
      "run_in_memory", &mpcc::run_in_memory, "program"_a, "weights"_a, "inputs"_a,
      "seed"_a = nb::none(), nb::kw_only(), "threads"_a = 1, "deadline"_a = 10.0,
      "network"_a = "none", "max_memory"_a = nb::none(), "max_work"_a = nb::none(),
      "ahead_bytes"_a = nb::none(),
      "Setup and one run per element of `inputs`, all endpoints in this process.\n\n"
      "Returns (list of {output name: float32 array}, statistics as JSON). With a seed, keys are\n"
      "the test keys of mpcc.ir.interp.party.SeededKeys and nothing is secret.");
  m.def("evaluate_op", &mpcc::evaluate_op, "program"_a, "index"_a, "operands"_a, "keys"_a,
        "isa"_a = "", "threads"_a = 1, "One op on given buffers; for tests of kernels.");
  m.def(
      "memory_use",
      [] {
        const auto use = mpcc::SecretBuffer::memory_use();
        return std::pair(use.now, use.most);
      },
      "Bytes in buffers of values, messages and working memory: now, and the most so far.");
  m.def("describe_program", &mpcc::describe_program, "program"_a, "threads"_a = 1,
        "Phases, depths, messages, orders and memory plans as the engine computes them.");
  m.def("artifact_program", &mpcc::artifact_program, "path"_a,
        "The checked program of an artifact file, as a party reads it.");
  nb::class_<mpcc::OwnerEndpoint>(m, "OwnerEndpoint",
                                  "The owner's end of a session over TLS: client and model.\n\n"
                                  "The constructor connects; see graph/session.h for the "
                                  "configuration file.")
      .def(nb::init<const nb::bytes&, const std::string&, std::uint32_t>(), "program"_a, "config"_a,
           "index"_a = 3)
      .def("setup", &mpcc::OwnerEndpoint::setup, "weights"_a,
           "Shares the weights (unsigned ring words by name); once, before the first run.")
      .def("run", &mpcc::OwnerEndpoint::run, "inputs"_a,
           "One run on float32 arrays by input name; returns float32 arrays by output name.")
      .def("statistics", &mpcc::OwnerEndpoint::statistics,
           "Seconds, bytes by link, rounds and memory of the session so far, as JSON.")
      .def("close", &mpcc::OwnerEndpoint::close, "Ends the session at all endpoints.");
  m.def("cpu_info", &mpcc::cpu_info, "Instruction sets found and kernels chosen.");
}

// The C interface: catches everything, so that no exception crosses the boundary.
#include <cstring>
#include <new>
#include <string>
#include <vector>

#include "base/error.h"
#include "graph/artifact.h"
#include "graph/session.h"
#include "include/mpcc/mpcc.h"

struct mpcc_error {
  std::string code;
  std::string text;
};

struct mpcc_session {
  std::unique_ptr<mpcc::graph::Session> session;
  std::vector<mpcc::graph::Output> outputs;
  std::string statistics;
};

namespace {

// For when not even an error can be made; never freed.
mpcc_error out_of_memory{"E-memory", "E-memory: out of memory"};

template <class F>
mpcc_error* guarded(F&& f) noexcept {
  try {
    try {
      f();
      return nullptr;
    } catch (const mpcc::Error& error) {
      return new mpcc_error{error.code(), error.what()};
    } catch (const std::exception& error) {
      return new mpcc_error{"E-engine", std::string("E-engine: ") + error.what()};
    }
  } catch (...) {
    return &out_of_memory;
  }
}

void need(bool ok, const char* what) {
  if (!ok) throw mpcc::Error("E-engine-usage", what);
}

mpcc::graph::Tensors views(const mpcc_tensor* tensors, std::size_t count) {
  need(tensors != nullptr || count == 0, "tensors are missing");
  mpcc::graph::Tensors out;
  for (std::size_t i = 0; i < count; ++i) {
    need(tensors[i].name != nullptr, "a tensor without a name");
    out.emplace(tensors[i].name,
                std::span(static_cast<const std::byte*>(tensors[i].data), tensors[i].bytes));
  }
  return out;
}

mpcc::graph::Engine& engine(mpcc_session* s) {
  need(s != nullptr, "no session");
  return s->session->engine();
}

}  // namespace

int mpcc_abi_version(void) { return MPCC_ABI_VERSION; }

const char* mpcc_error_code(const mpcc_error* error) { return error ? error->code.c_str() : ""; }
const char* mpcc_error_text(const mpcc_error* error) { return error ? error->text.c_str() : ""; }
void mpcc_error_free(mpcc_error* error) {
  if (error != nullptr && error != &out_of_memory) delete error;
}

mpcc_error* mpcc_session_open(const char* artifact, const char* config, uint32_t index,
                              mpcc_session** session) {
  return guarded([&] {
    need(artifact != nullptr && config != nullptr && session != nullptr, "an argument is NULL");
    *session = nullptr;
    const auto program = mpcc::graph::read_artifact(artifact).program;
    auto made = std::make_unique<mpcc_session>();
    made->session = std::make_unique<mpcc::graph::Session>(
        program, mpcc::graph::read_config(config, index), index);
    *session = made.release();
  });
}

mpcc_error* mpcc_session_setup(mpcc_session* session, const mpcc_tensor* weights, size_t count) {
  return guarded([&] { engine(session).setup(views(weights, count)); });
}

mpcc_error* mpcc_session_run(mpcc_session* session, const mpcc_tensor* inputs, size_t count) {
  return guarded([&] {
    auto& e = engine(session);
    session->outputs.clear();
    session->outputs = e.run(views(inputs, count));
  });
}

mpcc_error* mpcc_session_output(mpcc_session* session, const char* name, mpcc_tensor* output) {
  return guarded([&] {
    need(session != nullptr && name != nullptr && output != nullptr, "an argument is NULL");
    for (const auto& o : session->outputs)
      if (o.name == name) {
        *output = {o.name.c_str(), o.values.data(), o.values.size() * sizeof(float)};
        return;
      }
    throw mpcc::Error("E-engine-usage", "no output named '" + std::string(name) + "'");
  });
}

mpcc_error* mpcc_session_serve(mpcc_session* session) {
  return guarded([&] { engine(session).serve({}); });
}

const char* mpcc_session_statistics(mpcc_session* session) {
  mpcc_error* error = guarded([&] { session->statistics = engine(session).statistics().json(); });
  if (error != nullptr) {
    mpcc_error_free(error);
    return "{}";
  }
  return session->statistics.c_str();
}

void mpcc_session_close(mpcc_session* session) {
  if (session == nullptr) return;
  mpcc_error_free(guarded([&] { engine(session).close(); }));
  delete session;
}

/* mpcc: the C interface of the native engine, for services in C, C++ or anything with a foreign
 * function interface. The Python module and mpcc-party use the same classes underneath.
 *
 *   mpcc_session* s;
 *   mpcc_error* e = mpcc_session_open("M.mpcc", "cluster.json", 3, &s);
 *   if (e) { fprintf(stderr, "%s\n", mpcc_error_text(e)); mpcc_error_free(e); ... }
 *   e = mpcc_session_setup(s, weights, n);        // the owner's endpoint
 *   e = mpcc_session_run(s, inputs, m);           // as often as wanted
 *   mpcc_tensor y; e = mpcc_session_output(s, "logits", &y);
 *   mpcc_session_close(s);
 *
 * A compute party calls mpcc_session_serve() instead of setup and run. A session is used by one
 * thread at a time. Functions that return mpcc_error* return NULL on success; the caller frees the
 * error. After an error from setup, run or serve the session is over: close it. The configuration
 * file is described in runtime_native/graph/session.h and docs/engine.md. */
#ifndef MPCC_MPCC_H_
#define MPCC_MPCC_H_

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define MPCC_API __attribute__((visibility("default")))
#else
#define MPCC_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Grows with every incompatible change of this file. */
#define MPCC_ABI_VERSION 1

typedef struct mpcc_session mpcc_session;
typedef struct mpcc_error mpcc_error;

/* Dense, row-major. Weights: ring words (u64 or u32, as the program says). Inputs and outputs:
 * float. */
typedef struct mpcc_tensor {
  const char* name;
  const void* data;
  size_t bytes;
} mpcc_tensor;

MPCC_API int mpcc_abi_version(void);

/* "E-net-timeout" and the like; stable. Valid until the error is freed. */
MPCC_API const char* mpcc_error_code(const mpcc_error* error);
/* Code, message and place in one line; nothing secret. */
MPCC_API const char* mpcc_error_text(const mpcc_error* error);
MPCC_API void mpcc_error_free(mpcc_error* error);

/* Loads and checks the artifact, reads the configuration as endpoint `index`, connects to all
 * peers. */
MPCC_API mpcc_error* mpcc_session_open(const char* artifact, const char* config, uint32_t index,
                                       mpcc_session** session);
/* Owner: shares the weights. Once, before the first run. */
MPCC_API mpcc_error* mpcc_session_setup(mpcc_session* session, const mpcc_tensor* weights,
                                        size_t count);
/* Owner: one run; its outputs stay readable until the next one. */
MPCC_API mpcc_error* mpcc_session_run(mpcc_session* session, const mpcc_tensor* inputs,
                                      size_t count);
/* An output of the last run: name and data stay the session's. */
MPCC_API mpcc_error* mpcc_session_output(mpcc_session* session, const char* name,
                                         mpcc_tensor* output);
/* Compute party: setup and runs until the owner ends the session. */
MPCC_API mpcc_error* mpcc_session_serve(mpcc_session* session);
/* Seconds, bytes by link, rounds and memory so far, as JSON; valid until the next call. */
MPCC_API const char* mpcc_session_statistics(mpcc_session* session);
/* Ends the session (an owner's: at all endpoints) and frees it. NULL is allowed. */
MPCC_API void mpcc_session_close(mpcc_session* session);

#ifdef __cplusplus
}
#endif

#endif /* MPCC_MPCC_H_ */

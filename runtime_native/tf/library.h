/* What libmpcc_tf.so offers besides its ops: the tasks of this process (tf/task.h), for Python's
 * ctypes and for C. Functions return 0, or 1 and an error's text in `error` (cut to `room` bytes,
 * always terminated): "E-tf-keys: message [where]". */
#ifndef MPCC_TF_LIBRARY_H_
#define MPCC_TF_LIBRARY_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MPCC_TF_API __attribute__((visibility("default")))

/* Whether the ops were registered when TensorFlow loaded the library. */
MPCC_TF_API int mpcc_tf_loaded(char* error, size_t room);

/* A place ("P0") of the program, for nodes below `scope` ("" or "model/"). */
MPCC_TF_API int mpcc_tf_open(const char* scope, const char* place, const void* program,
                             size_t bytes, char* error, size_t room);
/* `names`: holder sets, each ended by a zero byte; `keys`: 16 bytes each, in the same order. */
MPCC_TF_API int mpcc_tf_begin(const char* scope, const char* place, uint64_t run, const char* names,
                              const void* keys, size_t count, char* error, size_t room);
MPCC_TF_API int mpcc_tf_give(const char* scope, const char* place, const char* name,
                             const void* data, size_t bytes, char* error, size_t room);
/* Copies an output of exactly `bytes` bytes to `data`. */
MPCC_TF_API int mpcc_tf_output(const char* scope, const char* place, const char* name, void* data,
                               size_t bytes, char* error, size_t room);
/* All places of endpoint `index` of a cluster file (graph/session.h), connected to the peers. Its
 * runs begin by mpcc_tf_begin_run(), with the keys that it agrees on. `listen_fd`: a listening
 * socket of its port, or -1. `keys_only`: whether transfers are TensorFlow's edges, and the
 * connections serve keys alone. */
MPCC_TF_API int mpcc_tf_connect(const char* scope, const void* program, size_t bytes,
                                const char* config, uint32_t index, int listen_fd, int keys_only,
                                char* error, size_t room);
/* Fails with the error that has ended the session of an endpoint: also where nobody waits. */
MPCC_TF_API int mpcc_tf_check(const char* scope, const char* place, char* error, size_t room);
/* What the endpoint has sent so far, as JSON in `text`. */
MPCC_TF_API int mpcc_tf_statistics(const char* scope, const char* place, char* text, size_t size,
                                   char* error, size_t room);
/* Waits for the peers. `scope` and `place` name any place of the endpoint. */
MPCC_TF_API int mpcc_tf_begin_run(const char* scope, const char* place, uint64_t run, char* error,
                                  size_t room);
/* Of an endpoint: ends the session with its peers; every place is closed as well. */
MPCC_TF_API void mpcc_tf_disconnect(const char* scope, const char* place);
MPCC_TF_API void mpcc_tf_close(const char* scope, const char* place);

#ifdef __cplusplus
}
#endif

#endif /* MPCC_TF_LIBRARY_H_ */

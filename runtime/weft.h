/* Weft from C, and so from any language: compile a variant, ask what a call of it needs, run it on memory of your own.
 *
 * docs/cpp.md has a whole program: weft_parse(), weft_compile(), memory for each weft_call_buffer(), weft_run().
 *
 * Ownership: what a function of name weft_parse or weft_compile gives belongs to the caller, who frees it once with the
 * function of name weft_..._free; a call outlives its variant. Texts belong to what they were asked of. Memory is
 * always the caller's: on a CPU and on the emulator buffers of role WEFT_SCRATCH may be NULL, then they are made for
 * the call.
 *
 * Errors: functions that give a pointer give NULL, those that give an int a value other than 0 (or below 0, where the
 * int counts); weft_error() has the words. Nothing throws and nothing ends the process.
 *
 * Threads: all functions may be called from any thread at any time; a call may run on several threads at once.
 * weft_error is of the calling thread. Stable: functions and fields are added, none is changed; WEFT_API_VERSION
 * counts.
 */
#ifndef WEFT_H
#define WEFT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WEFT_API_VERSION 1
#define WEFT_MOST_DIMS 8

typedef struct weft_variant weft_variant;
typedef struct weft_call weft_call;

typedef enum weft_type { WEFT_F32, WEFT_BF16, WEFT_F16, WEFT_I32, WEFT_I64, WEFT_BOOL, WEFT_F64 } weft_type;
/* Forward: o and what is kept of each query. Backward: gradients, from both and a cotangent. */
typedef enum weft_purpose { WEFT_FORWARD, WEFT_BACKWARD } weft_purpose;
/* Input: the caller's, read. Output: the results, o [B, H, T, E] or sums of gradients. Kept: of each query, f32 [B, H,
 * T], first "lse", the natural log-sum-exp; inputs of a backward pass have the same names. Scratch: between kernels. */
typedef enum weft_role { WEFT_INPUT, WEFT_OUTPUT, WEFT_KEPT, WEFT_SCRATCH } weft_role;

typedef struct weft_buffer {
  const char *name; /* an input's; "o", "do", "lse", "dq" (the gradient of q), ... */
  weft_type type;
  weft_role role;
  int rank;    /* dims of its shape, at most WEFT_MOST_DIMS */
  int used;    /* 0: no kernel touches it, it may be NULL */
  int zeroed;  /* the caller fills it with zeros before each run */
  int strided; /* its strides may be given; else it is contiguous */
} weft_buffer;

/* From an output of a backward pass to the gradient of an input: axis by axis kept as it is, summed up to one entry, or
 * heads summed up to their groups. */
typedef enum weft_axis { WEFT_AXIS_KEPT, WEFT_AXIS_GROUPED, WEFT_AXIS_SUMMED } weft_axis;
typedef struct weft_gradient {
  int input;  /* buffer of the input */
  int buffer; /* that holds the gradient, or its partial sums */
  int rank;   /* axes below; 0: it is complete */
  weft_axis axes[WEFT_MOST_DIMS];
} weft_gradient;

/* The version of the library: WEFT_API_VERSION where it was built with this header. */
int weft_api_version(void);
/* What the last call of this thread that failed had to say; "" before any. */
const char *weft_error(void);

/* A text with one variant. */
weft_variant *weft_parse(const char *text);
void weft_variant_free(weft_variant *variant);
const char *weft_variant_name(const weft_variant *variant);

/* A call in the device's default schedule, its kernels compiled or found in the cache of kernels. `device`: "cpu",
 * "cuda", "cuda:1" or "ptx-emulator". Rows end in `count` dims of these names and sizes, 1 to 256 each: kernels are
 * made for them, and for those of dims that count terms, as in any(n < N, ...), 1 to 64. */
weft_call *weft_compile(const weft_variant *variant, weft_purpose purpose, weft_type type, const char *device,
                        int count, const char *const *row_dims, const int64_t *row_sizes);
void weft_call_free(weft_call *call);

/* The dims that come with a run, by position: their number, their names. */
int weft_call_dims(const weft_call *call);
const char *weft_call_dim(const weft_call *call, int dim);
/* The buffers of a run, by position: first the variant's inputs in their order. */
int weft_call_buffers(const weft_call *call);
int weft_call_buffer(const weft_call *call, int buffer, weft_buffer *out);
/* The shape of a buffer for a run of these dims; gives the bytes that it needs, below 0 on error. `shape` may be NULL.
 */
int64_t weft_call_shape(const weft_call *call, int buffer, const int64_t *dims, int64_t *shape);
/* The gradients of a backward pass: their number, and each. */
int weft_call_gradients(const weft_call *call);
int weft_call_gradient(const weft_call *call, int gradient, weft_gradient *out);
/* The plan as a table, for people. */
const char *weft_call_plan(const weft_call *call);

/* Runs the kernels. `data`: an address for each buffer. `strides`: NULL, or for each buffer NULL or the strides of its
 * dims, in elements. `stream`: CUDA, the stream to launch on (its memory must live until the work is done); else NULL.
 * `threads`: of a CPU; 0: all. */
int weft_run(const weft_call *call, const int64_t *dims, void *const *data, const int64_t *const *strides, void *stream,
             int threads);

#ifdef __cplusplus
}
#endif
#endif

/* Weft from C: a variant, forward and backward on plain arrays, compared with the formulas. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <weft/weft.h>

enum { B = 1, H = 2, G = 1, T = 70, S = 70, D = 16 };

static const char *const text =
    "attention alibi(q: [B, H, T, D], k: [B, G, S, D], v: [B, G, S, E], slope: [H])\n"
    "{\n"
    "  where i >= j\n"
    "  score dot(q[i], k[j]) / sqrt(D) - slope[h] * (i - j)\n"
    "}\n";

static void fail(const char *what) {
  fprintf(stderr, "%s: %s\n", what, weft_error());
  exit(1);
}

static float drawn(void) { return (float)rand() / (float)RAND_MAX * 2 - 1; }

/* The memory of a buffer of that name; NULL where there is none. */
static void *named(const weft_call *call, void **data, const char *name) {
  for (int at = 0; call && at < weft_call_buffers(call); ++at) {
    weft_buffer buffer;
    if (weft_call_buffer(call, at, &buffer)) fail("weft_call_buffer");
    if (!strcmp(buffer.name, name)) return data[at];
  }
  return NULL;
}

/* Memory for all buffers of a call. Those of `names` are the caller's; what a forward pass kept, `before`, goes to the backward pass. */
static void **memory_of(const weft_call *call, const int64_t *dims, int count, const char *const *names, void *const *own, const weft_call *before,
                        void **kept) {
  const int buffers = weft_call_buffers(call);
  void **data = calloc((size_t)buffers, sizeof *data);
  for (int at = 0; at < buffers; ++at) {
    weft_buffer buffer;
    if (weft_call_buffer(call, at, &buffer)) fail("weft_call_buffer");
    for (int name = 0; name < count; ++name)
      if (!strcmp(buffer.name, names[name])) data[at] = own[name];
    if (!data[at] && buffer.role != WEFT_SCRATCH) data[at] = named(before, kept, buffer.name);
    if (data[at] || buffer.role == WEFT_SCRATCH) continue; /* scratch is made for the call */
    const int64_t bytes = weft_call_shape(call, at, dims, NULL);
    if (bytes < 0) fail("weft_call_shape");
    data[at] = calloc((size_t)bytes, 1);
  }
  return data;
}

/* The gradient of an input, of at most `count` numbers: as the call says, from what a backward pass wrote. */
static void gradient_of(const weft_call *call, const weft_gradient *gradient, const int64_t *dims, const float *written, double *out, int count) {
  int64_t shape[WEFT_MOST_DIMS], own[WEFT_MOST_DIMS], step[WEFT_MOST_DIMS] = {0}, group[WEFT_MOST_DIMS], next = 1;
  const int64_t bytes = weft_call_shape(call, gradient->buffer, dims, shape);
  const int64_t needed = weft_call_shape(call, gradient->input, dims, own) / (int64_t)sizeof(float);
  weft_buffer input;
  if (bytes < 0 || needed > count || weft_call_buffer(call, gradient->input, &input)) fail("weft_call_shape");
  for (int64_t at = 0; at < needed; ++at) out[at] = 0;
  /* Axes that are summed are gone in the input; the others are its dims in their order. */
  int dim = input.rank;
  for (int axis = gradient->rank - 1; axis >= 0; --axis) {
    group[axis] = 1;
    if (gradient->axes[axis] == WEFT_AXIS_SUMMED) continue;
    if (gradient->axes[axis] == WEFT_AXIS_GROUPED) group[axis] = shape[axis] / own[dim - 1];
    step[axis] = next;
    next *= own[--dim];
  }
  for (int64_t at = 0; at < bytes / (int64_t)sizeof(float); ++at) {
    int64_t place = gradient->rank ? 0 : at, rest = at;
    for (int axis = gradient->rank - 1; axis >= 0; --axis) place += rest % shape[axis] / group[axis] * step[axis], rest /= shape[axis];
    out[place] += written[at];
  }
}

static void widen(const float *from, double *to, int count) {
  for (int at = 0; at < count; ++at) to[at] = from[at];
}

/* o of the same inputs in WEFT_F64, of which `exact` is the truth: the largest difference. */
static double error_of_f64(const weft_variant *variant, const int64_t *dims, const float *q, const float *k, const float *v, const float *slope,
                           const double *exact) {
  static double q64[H * T * D], k64[G * S * D], v64[G * S * D], slope64[H], o64[H * T * D];
  widen(q, q64, H * T * D), widen(k, k64, G * S * D), widen(v, v64, G * S * D), widen(slope, slope64, H);
  const char *rows[] = {"D", "E"}, *names[] = {"q", "k", "v", "slope", "o"};
  const int64_t sizes[] = {D, D};
  void *own[] = {q64, k64, v64, slope64, o64};
  weft_call *call = weft_compile(variant, WEFT_FORWARD, WEFT_F64, "cpu", 2, rows, sizes);
  if (!call) fail("weft_compile");
  void **data = memory_of(call, dims, 5, names, own, NULL, NULL);
  if (weft_run(call, dims, data, NULL, NULL, 0)) fail("weft_run");
  weft_call_free(call);
  double worst = 0;
  for (int at = 0; at < H * T * D; ++at) worst = fmax(worst, fabs(exact[at] - o64[at]));
  return worst;
}

int main(void) {
  if (weft_api_version() != WEFT_API_VERSION) return 1;
  weft_variant *variant = weft_parse(text);
  if (!variant) fail("weft_parse");
  const char *rows[] = {"D", "E"};
  const int64_t sizes[] = {D, D};
  weft_call *forward = weft_compile(variant, WEFT_FORWARD, WEFT_F32, "cpu", 2, rows, sizes);
  weft_call *backward = weft_compile(variant, WEFT_BACKWARD, WEFT_F32, "cpu", 2, rows, sizes);
  if (!forward || !backward) fail("weft_compile");
  fputs(weft_call_plan(forward), stdout);

  int64_t dims[16];
  for (int at = 0; at < weft_call_dims(forward); ++at) {
    const char *name = weft_call_dim(forward, at);
    dims[at] = !strcmp(name, "B") ? B : !strcmp(name, "H") ? H : !strcmp(name, "G") ? G : !strcmp(name, "T") ? T : !strcmp(name, "S") ? S : D;
  }
  static float q[H * T * D], k[G * S * D], v[G * S * D], slope[H] = {0.1f, 0.3f}, o[H * T * D], lse[H * T], d_o[H * T * D];
  for (int at = 0; at < H * T * D; ++at) q[at] = drawn(), d_o[at] = drawn();
  for (int at = 0; at < G * S * D; ++at) k[at] = drawn(), v[at] = drawn();

  const char *names[] = {"q", "k", "v", "slope", "o", "lse", "do"};
  void *own[] = {q, k, v, slope, o, lse, d_o};
  void **data = memory_of(forward, dims, 6, names, own, NULL, NULL);
  if (weft_run(forward, dims, data, NULL, NULL, 2)) fail("weft_run");

  static double exact[H * T * D];
  static double d_q[H * T * D], d_k[G * S * D], d_v[G * S * D];
  double worst = 0, d_slope[H] = {0};
  for (int h = 0; h < H; ++h)
    for (int i = 0; i < T; ++i) {
      double p[S], sum = 0, out[D] = {0}, delta = 0, dp[S];
      for (int j = 0; j <= i; ++j) {
        double s = 0;
        for (int c = 0; c < D; ++c) s += (double)q[(h * T + i) * D + c] * k[j * D + c];
        sum += p[j] = exp(s / sqrt(D) - (double)slope[h] * (i - j));
      }
      for (int j = 0; j <= i; ++j) {
        p[j] /= sum, dp[j] = 0;
        for (int c = 0; c < D; ++c) out[c] += p[j] * v[j * D + c], dp[j] += (double)d_o[(h * T + i) * D + c] * v[j * D + c];
        delta += p[j] * dp[j];
      }
      for (int j = 0; j <= i; ++j) {
        const double ds = p[j] * (dp[j] - delta);
        d_slope[h] -= ds * (i - j);
        for (int c = 0; c < D; ++c) {
          d_q[(h * T + i) * D + c] += ds * k[j * D + c] / sqrt(D);
          d_k[j * D + c] += ds * q[(h * T + i) * D + c] / sqrt(D); /* both heads share the keys */
          d_v[j * D + c] += p[j] * d_o[(h * T + i) * D + c];
        }
      }
      for (int c = 0; c < D; ++c) worst = fmax(worst, fabs((exact[(h * T + i) * D + c] = out[c]) - o[(h * T + i) * D + c]));
      worst = fmax(worst, fabs(log(sum) - lse[h * T + i]));
    }
  printf("largest error of o and lse: %.1e\n", worst);

  const double wide = error_of_f64(variant, dims, q, k, v, slope, exact);
  printf("largest error of o in f64: %.1e\n", wide);
  weft_variant_free(variant);

  void **passed = memory_of(backward, dims, 7, names, own, forward, data);
  if (weft_run(backward, dims, passed, NULL, NULL, 0)) fail("weft_run");
  double error = 0;
  int compared = 0;
  for (int at = 0; at < weft_call_gradients(backward); ++at) {
    weft_gradient gradient;
    weft_buffer input;
    if (weft_call_gradient(backward, at, &gradient) || weft_call_buffer(backward, gradient.input, &input)) fail("weft_call_gradient");
    const char *wanted[] = {"q", "k", "v", "slope"};
    const double *exact_gradients[] = {d_q, d_k, d_v, d_slope};
    const int numbers[] = {H * T * D, G * S * D, G * S * D, H};
    static double got[H * T * D];
    for (int name = 0; name < 4; ++name) {
      if (strcmp(input.name, wanted[name])) continue;
      gradient_of(backward, &gradient, dims, passed[gradient.buffer], got, numbers[name]);
      for (int place = 0; place < numbers[name]; ++place) error = fmax(error, fabs(got[place] - exact_gradients[name][place]));
      ++compared;
    }
  }
  printf("largest error of the %d gradients: %.1e\n", compared, error);

  /* Mistakes are told, none ends the process. */
  if (weft_parse("attention x") || !strstr(weft_error(), "expected '(' after the variant's name")) return 2;
  if (weft_compile(NULL, WEFT_FORWARD, WEFT_F32, "cpu", 0, NULL, NULL) || !strstr(weft_error(), "expected a variant, got NULL")) return 3;
  if (!weft_run(forward, dims, NULL, NULL, NULL, 0)) return 4;
  data[0] = NULL;
  if (!weft_run(forward, dims, data, NULL, NULL, 0) || !strstr(weft_error(), "expected memory of buffer 'q'")) return 5;
  dims[3] = -1;
  if (!weft_run(forward, dims, data, NULL, NULL, 0) || !strstr(weft_error(), "expected a size of dim T, got -1")) return 6;
  weft_call_free(forward);
  weft_call_free(backward);
  return worst < 1e-5 && error < 1e-4 && compared == 4 && wide < 1e-13 ? 0 : 7;
}

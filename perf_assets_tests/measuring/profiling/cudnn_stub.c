/* A cuDNN that computes nothing: it checks what it is told, counts calls and answers with cuDNN's own statuses. */
#include <stddef.h>
#include <stdlib.h>

enum { OK = 0, BAD_PARAM = 2000, NOT_SUPPORTED = 3000 };
typedef struct { int data_type, dims[4], mode, compute, groups, math; } Descriptor;

static int created, planned, forwarded, last_math, last_type;
int stub_created(void) { return created; }
int stub_planned(void) { return planned; }
int stub_forwarded(void) { return forwarded; }
int stub_last_math(void) { return last_math; }
int stub_last_type(void) { return last_type; }

const char *cudnnGetErrorString(int status) { return status == NOT_SUPPORTED ? "CUDNN_STATUS_NOT_SUPPORTED" : "CUDNN_STATUS_BAD_PARAM"; }
int cudnnCreate(void **handle) { *handle = malloc(1); return OK; }
int cudnnSetStream(void *handle, void *stream) { return handle ? OK : BAD_PARAM; }

static int create(Descriptor **made) { *made = calloc(1, sizeof **made); created++; return OK; }
static int destroy(Descriptor *old) { free(old); created--; return OK; }
int cudnnCreateTensorDescriptor(Descriptor **made) { return create(made); }
int cudnnCreateFilterDescriptor(Descriptor **made) { return create(made); }
int cudnnCreateConvolutionDescriptor(Descriptor **made) { return create(made); }
int cudnnDestroyTensorDescriptor(Descriptor *old) { return destroy(old); }
int cudnnDestroyFilterDescriptor(Descriptor *old) { return destroy(old); }
int cudnnDestroyConvolutionDescriptor(Descriptor *old) { return destroy(old); }

static int set(Descriptor *made, int type, int a, int b, int c, int d) {
  if (a < 1 || b < 1 || c < 1 || d < 1) return BAD_PARAM;
  *made = (Descriptor){.data_type = type, .dims = {a, b, c, d}};
  return OK;
}
int cudnnSetTensor4dDescriptor(Descriptor *made, int format, int type, int n, int c, int h, int w) {
  return format == 0 ? set(made, type, n, c, h, w) : BAD_PARAM;
}
int cudnnSetFilter4dDescriptor(Descriptor *made, int type, int format, int k, int c, int h, int w) {
  return format == 0 ? set(made, type, k, c, h, w) : BAD_PARAM;
}
int cudnnSetConvolution2dDescriptor(Descriptor *made, int pad_h, int pad_w, int stride_h, int stride_w, int dilation_h,
                                    int dilation_w, int mode, int compute) {
  made->mode = mode, made->compute = compute;
  return stride_h > 0 && stride_w > 0 && dilation_h > 0 && dilation_w > 0 ? OK : BAD_PARAM;
}
int cudnnSetConvolutionGroupCount(Descriptor *made, int groups) { made->groups = groups; return OK; }
int cudnnSetConvolutionMathType(Descriptor *made, int math) { made->math = math; return OK; }

int cudnnGetConvolutionForwardWorkspaceSize(void *handle, Descriptor *source, Descriptor *kernel, Descriptor *convolution,
                                            Descriptor *target, int algorithm, size_t *bytes) {
  planned++;
  /* cross-correlation, sums in float, one type throughout, channels that fit */
  if (convolution->mode != 1 || convolution->compute != 0) return BAD_PARAM;
  if (source->data_type != kernel->data_type || source->data_type != target->data_type) return BAD_PARAM;
  if (source->dims[1] != kernel->dims[1] * convolution->groups || target->dims[1] != kernel->dims[0]) return BAD_PARAM;
  if (algorithm == 6 && kernel->dims[2] != 3) return NOT_SUPPORTED;
  if (algorithm == 4 && source->data_type == 9) return NOT_SUPPORTED;
  *bytes = 64;
  return OK;
}
int cudnnConvolutionForward(void *handle, const float *alpha, Descriptor *source, const void *images, Descriptor *kernel,
                            const void *weight, Descriptor *convolution, int algorithm, void *workspace, size_t bytes,
                            const float *beta, Descriptor *target, void *result) {
  if (*alpha != 1.0f || *beta != 0.0f || bytes != 64 || !images || !weight || !workspace || !result) return BAD_PARAM;
  forwarded++, last_math = convolution->math, last_type = source->data_type;
  return OK;
}

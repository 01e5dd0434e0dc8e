/* A CUDA library for tests. Like the real one it reads CUDA_VISIBLE_DEVICES once, when it is started, and not again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
enum { SUCCESS = 0, NOT_INITIALISED = 3 };

static int is_up;
static char seen[1024];

EXPORT int cuInit(unsigned flags) {
    const char *mask = getenv("CUDA_VISIBLE_DEVICES");
    if (!is_up) snprintf(seen, sizeof seen, "%s", mask ? mask : "all");
    is_up = 1;
    return SUCCESS;
}
EXPORT int cuDeviceGetCount(int *count) {
    if (!is_up) return NOT_INITIALISED;
    *count = seen[0] != 0;
    for (const char *c = seen; *c; c++) *count += *c == ',';
    return SUCCESS;
}
/* Not of CUDA: what the mask was when it was started. */
EXPORT const char *testSeen(void) { return seen; }

/* A driver library for tests: the entry points that pynvml calls, steered through a text file ($NVML_STATE).
 *
 *   init <code>                   what nvmlInit answers (0 is well)
 *   hang <call>                   that call never returns, e.g. nvmlDeviceGetMemoryInfo
 *   count <n>
 *   gpu <i> <total> <free> <utilisation %> <temperature> <error code> <uncorrected ECC errors> <mig 0|1>     (MiB)
 *   process <i> <pid> <MiB>       on gpu i, or on MIG device 100 * (i + 1) + m
 *   mig <i> <m> <total> <free>
 *   uuid <i> <text>               else GPU-<i>
 *   name <i> <text to the end of the line>
 *   abort <i>                     the library aborts when it is asked for the handle of card i
 *   hangs <i>                     it never returns from that
 *   unified <i> <error>           card i has no memory of its own: it answers that error, or 0 of 0 if it is 0
 *
 * It is read anew by every call; numbers of errors and layouts of structures are those of nvml.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, SMALL = 7 };
#define MIB (1ULL << 20)
#define SIZE 64
#define EXPORT __attribute__((visibility("default")))

typedef struct {
    int exists, parent, number, error, utilisation, temperature, mig, aborts, hangs, unified;
    unsigned long long total, free, ecc;
    char uuid[96], name[96];
} Card;
typedef struct { int card; unsigned pid; unsigned long long mib; } Process;
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned gpu, memory; } Utilisation;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } ProcessInfo;

static Card cards[SIZE], migs[SIZE];
static Process processes[SIZE];
static int init_code, count, process_count, mig_count;

static void look(const char *call) {
    char line[256], word[128];
    memset(cards, 0, sizeof cards);
    memset(migs, 0, sizeof migs);
    init_code = count = process_count = mig_count = 0;
    const char *path = getenv("NVML_STATE");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file) return;
    while (fgets(line, sizeof line, file)) {
        int i, m; Card c = {1, -1}; Process p;
        if (sscanf(line, "init %d", &i) == 1) init_code = i;
        if (sscanf(line, "count %d", &i) == 1) count = i;
        if (sscanf(line, "hang %127s", word) == 1 && !strcmp(word, call)) for (;;) pause();
        if (sscanf(line, "gpu %d %llu %llu %d %d %d %llu %d", &i, &c.total, &c.free, &c.utilisation, &c.temperature,
                   &c.error, &c.ecc, &c.mig) == 8) { c.number = i; cards[i] = c; }
        if (sscanf(line, "uuid %d %95s", &i, word) == 2) strcpy(cards[i].uuid, word);
        if (sscanf(line, "name %d %95[^\n]", &i, word) == 2) strcpy(cards[i].name, word);
        if (sscanf(line, "abort %d", &i) == 1) cards[i].aborts = 1;
        if (sscanf(line, "hangs %d", &i) == 1) cards[i].hangs = 1;
        if (sscanf(line, "unified %d %d", &i, &m) == 2) cards[i].unified = m ? m : -1;
        if (sscanf(line, "process %d %u %llu", &p.card, &p.pid, &p.mib) == 3) processes[process_count++] = p;
        if (sscanf(line, "mig %d %d %llu %llu", &i, &m, &c.total, &c.free) == 4) {
            c.parent = i; c.number = m; migs[mig_count++] = c;
        }
    }
    fclose(file);
}

/* A handle is 1 + index, or 1000 + 100 * (card + 1) + number for a MIG device. */
static Card *card_of(void *handle) {
    long number = (long) handle;
    if (number < 1000) return number >= 1 && number <= count && cards[number - 1].exists ? &cards[number - 1] : NULL;
    for (int i = 0; i < mig_count; i++)
        if (number == 1000 + 100 * (migs[i].parent + 1) + migs[i].number) return &migs[i];
    return NULL;
}
static int key_of(Card *c) { return c->parent < 0 ? c->number : 100 * (c->parent + 1) + c->number; }

#define ENTER look(__func__); if (init_code) return init_code;
#define CARD ENTER Card *c = card_of(handle); if (!c) return INVALID; if (c->error) return c->error;

EXPORT int nvmlInitWithFlags(unsigned flags) { look(__func__); return init_code; }
EXPORT int nvmlShutdown(void) { return SUCCESS; }
EXPORT const char *nvmlErrorString(int code) {
    static char text[64];
    if (code == 9) return "Driver Not Loaded";
    if (code == 15) return "GPU is lost";
    snprintf(text, sizeof text, "error %d", code);
    return text;
}
EXPORT int nvmlDeviceGetCount_v2(unsigned *n) { ENTER *n = count; return SUCCESS; }
EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    ENTER
    if ((int) index >= count) return INVALID;
    if (cards[index].aborts) abort();
    if (cards[index].hangs) for (;;) pause();
    if (cards[index].error == 15) return 15;
    *handle = (void *) (long) (index + 1);
    return SUCCESS;
}
EXPORT int nvmlDeviceGetMemoryInfo(void *handle, Memory *memory) {
    CARD
    if (c->unified > 0) return c->unified;
    if (c->unified < 0) { memory->total = memory->free = memory->used = 0; return SUCCESS; }
    memory->total = c->total * MIB; memory->free = c->free * MIB; memory->used = (c->total - c->free) * MIB;
    return SUCCESS;
}
EXPORT int nvmlDeviceGetUtilizationRates(void *handle, Utilisation *used) {
    CARD
    if (c->parent >= 0) return NOT_SUPPORTED;
    used->gpu = c->utilisation; used->memory = 0;
    return SUCCESS;
}
EXPORT int nvmlDeviceGetTemperature(void *handle, unsigned sensor, unsigned *celsius) {
    CARD
    if (c->parent >= 0) return NOT_SUPPORTED;
    *celsius = c->temperature;
    return SUCCESS;
}
EXPORT int nvmlDeviceGetUUID(void *handle, char *text, unsigned size) {
    CARD
    if (c->uuid[0]) snprintf(text, size, "%s", c->uuid);
    else snprintf(text, size, c->parent < 0 ? "GPU-%d" : "MIG-%d", key_of(c));
    return SUCCESS;
}
EXPORT int nvmlDeviceGetName(void *handle, char *text, unsigned size) {
    CARD
    if (c->name[0]) snprintf(text, size, "%s", c->name);
    else snprintf(text, size, c->parent < 0 ? "Test A100" : "Test A100 MIG 3g.20gb");
    return SUCCESS;
}
EXPORT int nvmlDeviceGetTotalEccErrors(void *handle, unsigned type, unsigned counter, unsigned long long *errors) {
    CARD
    *errors = c->ecc;
    return SUCCESS;
}
EXPORT int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
    CARD
    *current = *pending = c->mig;
    return SUCCESS;
}
EXPORT int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *most) {
    CARD
    *most = c->mig ? 7 : 0;
    return SUCCESS;
}
EXPORT int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned index, void **mig) {
    CARD
    long wanted = 1000 + 100 * (c->number + 1) + index;
    if (!card_of((void *) wanted)) return NOT_FOUND;
    *mig = (void *) wanted;
    return SUCCESS;
}
EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *n, ProcessInfo *infos) {
    CARD
    unsigned found = 0, room = *n;
    for (int i = 0; i < process_count; i++) {
        if (processes[i].card != key_of(c)) continue;
        if (infos && found < room) infos[found] = (ProcessInfo) {processes[i].pid, processes[i].mib * MIB, 0, 0};
        found++;
    }
    *n = found;
    return found > room ? SMALL : SUCCESS;
}
EXPORT int nvmlDeviceGetGraphicsRunningProcesses_v3(void *handle, unsigned *n, ProcessInfo *infos) {
    CARD
    *n = 0;
    return SUCCESS;
}

#include "driver/compute/numa.h"

#include <assert.h>
#include <stdlib.h>

#define NONE SIZE_MAX
#define MAX_AMOUNT                                                                                 \
    ((int64_t)1 << 40) /* MiB, CPUs, pages: more than there is, and sums of it fit. */

/* Page sizes that a server may ask for instead of a number. */
enum {
    PAGES_SMALL = -1,
    PAGES_LARGE = -2,
    PAGES_ANY = -3,
};

static const struct cpuset no_cpus;

static int64_t clamp(int64_t amount)
{
    return amount < 0 ? 0 : MIN(amount, MAX_AMOUNT);
}

/* Peers and older records leave fields out: that is none of it. */
#define AMOUNT(class, o, field)                                                                    \
    (class##_has_##field(o) && !class##_isnull_##field(o) ? clamp(class##_##field(o)) : 0)
#define CPUS(class, o, field)                                                                      \
    (class##_has_##field(o) && class##_##field(o) ? class##_##field(o) : &no_cpus)
#define TEXT(class, o, field)  (class##_has_##field(o) ? class##_##field(o) : NULL)
#define COUNT(class, o, field) (class##_has_##field(o) ? class##_n_##field(o) : 0)

/* What is short, or NULL if nothing is.  Where more is used than there may be, less than 0 is free
 * and even wanting none is too much, as in Nova. */
MUST_CHECK static char *lack(const char *what, int64_t wanted, int64_t is_free)
{
    if (wanted <= is_free) {
        return NULL;
    }
    return str_printf("short of %s by %lld (wanted %lld, free %lld)", what,
                      (long long)(wanted - is_free), (long long)wanted, (long long)is_free);
}

static void add_cpu(struct cpuset *s, struct json_object *number)
{
    int64_t cpu = json_object_get_int64(number);

    if (cpu >= 0 && cpu < CPUSET_MAX) {
        cpuset_add(s, (unsigned)cpu);
    }
}

/* ---- Cells as they come ---- */

static bool is_pinned(const struct instance_numa_cell *c)
{
    const char *policy = TEXT(instance_numa_cell, c, cpu_policy);

    return str_eq(policy, "dedicated") || str_eq(policy, "mixed");
}

static bool is_shared(const struct instance_numa_cell *c)
{
    return !str_eq(TEXT(instance_numa_cell, c, cpu_policy), "dedicated");
}

static bool has_thread_policy(const struct instance_numa_cell *c, const char *policy)
{
    return str_eq(TEXT(instance_numa_cell, c, cpu_thread_policy), policy);
}

/* What the server asked for; 0: nothing. */
static int64_t asked_pagesize(const struct instance_numa_cell *c)
{
    return instance_numa_cell_has_pagesize(c) && !instance_numa_cell_isnull_pagesize(c)
               ? instance_numa_cell_pagesize(c)
               : 0;
}

static struct cpuset free_pcpus(const struct numa_cell *host)
{
    return cpuset_diff(CPUS(numa_cell, host, pcpuset), CPUS(numa_cell, host, pinned_cpus));
}

static int64_t free_memory(const struct numa_cell *host)
{
    return AMOUNT(numa_cell, host, memory) - AMOUNT(numa_cell, host, memory_usage);
}

static size_t n_siblings(const struct numa_cell *host)
{
    struct json_object *sets = TEXT(numa_cell, host, siblings);

    return sets ? json_object_array_length(sets) : 0;
}

/* The threads of a core. */
static struct cpuset siblings(const struct numa_cell *host, size_t i)
{
    struct json_object *threads = json_object_array_get_idx(numa_cell_siblings(host), i);
    struct cpuset core = {0};

    for (size_t j = 0; j < json_object_array_length(threads); j++) {
        add_cpu(&core, json_object_array_get_idx(threads, j));
    }
    return core;
}

/* ---- Memory ---- */

static int64_t page_size(const struct numa_pages_topology *p)
{
    return AMOUNT(numa_pages_topology, p, size_kb);
}

/* The pages of the largest size below a limit, or NULL. */
static struct numa_pages_topology *pages_below(const struct numa_cell *host, int64_t limit)
{
    struct numa_pages_topology *best = NULL;

    for (size_t i = 0; i < COUNT(numa_cell, host, mempages); i++) {
        struct numa_pages_topology *p = numa_cell_mempages_at(host, i);
        int64_t size = page_size(p);

        if (size > 0 && size < limit && (!best || size > page_size(best))) {
            best = p;
        }
    }
    return best;
}

static struct numa_pages_topology *smallest_pages(const struct numa_cell *host)
{
    struct numa_pages_topology *p = pages_below(host, INT64_MAX), *smallest = NULL;

    for (; p; p = pages_below(host, page_size(p))) {
        smallest = p;
    }
    return smallest;
}

MUST_CHECK static char *lack_pages(const struct numa_pages_topology *p, int64_t mib, int64_t used)
{
    int64_t size = page_size(p);
    CLEANUP(freep) char *what = str_printf("pages of %lld KiB", (long long)size);

    if (mib * 1024 % size) {
        return str_printf("%lld MiB are no whole number of %s", (long long)mib, what);
    }
    return lack(what, mib * 1024 / size, AMOUNT(numa_pages_topology, p, total) - used);
}

static bool is_asked(int64_t asked, int64_t size, bool is_smallest)
{
    switch (asked) {
    case PAGES_SMALL:
        return is_smallest;
    case PAGES_LARGE:
        return !is_smallest;
    case PAGES_ANY:
        return true;
    default:
        return size == asked;
    }
}

/* The largest pages of those asked for that suffice, or why there are none. */
MUST_CHECK static char *find_pages(const struct numa_cell *host, int64_t mib, int64_t asked,
                                   int64_t *ret_size)
{
    char *why = NULL;

    for (struct numa_pages_topology *p = pages_below(host, INT64_MAX); p;
         p = pages_below(host, page_size(p))) {
        if (is_asked(asked, page_size(p), !pages_below(host, page_size(p)))) {
            free(why);
            why = lack_pages(p, mib,
                             AMOUNT(numa_pages_topology, p, used) +
                                 AMOUNT(numa_pages_topology, p, reserved));
            if (!why) {
                *ret_size = page_size(p);
                return NULL;
            }
        }
    }
    return why         ? why
           : asked > 0 ? str_printf("no pages of %lld KiB", (long long)asked)
                       : str_dup("no pages of the size class asked for");
}

/* Without a page size a server may share memory with others, never with itself. */
MUST_CHECK static char *fit_memory(const struct numa_cell *host, struct instance_numa_cell *guest)
{
    int64_t mib = AMOUNT(instance_numa_cell, guest, memory), asked = asked_pagesize(guest);
    int64_t size = 0;
    struct numa_pages_topology *smallest = smallest_pages(host);
    char *why;

    if (!instance_numa_cell_has_memory(guest)) {
        return str_dup("no memory size");
    }
    if (!asked) {
        return smallest ? lack_pages(smallest, mib, /* used= */ 0)
                        : lack("memory in MiB", mib, AMOUNT(numa_cell, host, memory));
    }
    why = find_pages(host, mib, asked, &size);
    if (!why) {
        instance_numa_cell_set_pagesize(guest, size);
    }
    return why;
}

/* ---- CPUs ---- */

struct cores {
    struct cpuset *free; /* The free threads of each core. */
    size_t n;
    size_t n_threads; /* The most that a core has, free or not. */
};

static struct cores cores_of(const struct numa_cell *host)
{
    CLEANUP(cpuset_fini) struct cpuset is_free = free_pcpus(host);
    struct cores c = {.n = n_siblings(host), .n_threads = 1};

    c.free = NEW_ARRAY(struct cpuset, c.n);
    for (size_t i = 0; i < c.n; i++) {
        CLEANUP(cpuset_fini) struct cpuset core = siblings(host, i);

        c.n_threads = MAX(c.n_threads, core.n);
        c.free[i] = cpuset_intersect(&core, &is_free);
    }
    return c;
}

static void cores_fini(struct cores *c)
{
    for (size_t i = 0; i < c->n; i++) {
        cpuset_fini(&c->free[i]);
    }
    free(c->free);
}

/* How many CPUs there are, and the first n of them, if one takes at most 'take' threads of each
 * core that has at least 'least' free ones. */
static size_t pick(const struct cores *c, size_t least, size_t take, unsigned *ret, size_t n)
{
    size_t n_found = 0;

    for (size_t i = 0; i < c->n; i++) {
        const struct cpuset *core = &c->free[i];

        for (size_t j = 0; core->n >= least && j < MIN(core->n, take); j++, n_found++) {
            if (n_found < n) {
                ret[n_found] = core->items[j];
            }
        }
    }
    return n_found;
}

/* Chooses host CPUs for a guest cell's dedicated ones, which are not none. */
MUST_CHECK static char *pick_pins(const struct numa_cell *host,
                                  const struct instance_numa_cell *guest, const struct cores *c,
                                  unsigned *ret, size_t n)
{
    size_t found = 0;

    if (has_thread_policy(guest, "isolate")) {
        /* A host that tells dedicated CPUs from shared ones has no spare threads to keep idle. */
        if (c->n_threads > 1 &&
            !cpuset_eq(CPUS(numa_cell, host, pcpuset), CPUS(numa_cell, host, cpuset))) {
            return str_printf("thread policy isolate, but cores have %zu threads", c->n_threads);
        }
        found = pick(c, c->n_threads, 1, ret, n);
        return lack("wholly free cores", (int64_t)n, (int64_t)found);
    }
    bool is_required = has_thread_policy(guest, "require");

    for (size_t t = c->n_threads; found < n && t > (is_required ? 1 : 0); t--) {
        found = MAX(found, pick(c, t, t, ret, n));
    }
    if (found < n && !is_required) {
        found = pick(c, 1, SIZE_MAX, ret, n);
    }
    return lack(is_required ? "CPUs to pin next to free siblings" : "CPUs to pin", (int64_t)n,
                (int64_t)found);
}

/* A CPU for the emulator's threads.  With isolate it takes its whole core, so it needs a free one;
 * Nova also chooses half-used cores, and then fails with CPUPinningInvalid when it counts them. */
static bool pick_emulator_cpu(const struct cores *c, const struct cpuset *pinned, bool is_isolated,
                              unsigned *ret)
{
    for (size_t i = 0; i < c->n; i++) {
        CLEANUP(cpuset_fini) struct cpuset left = cpuset_diff(&c->free[i], pinned);

        if (left.n >= (is_isolated ? c->n_threads : 1)) {
            *ret = left.items[0];
            return true;
        }
    }
    return false;
}

static void set_pins(struct instance_numa_cell *guest, const unsigned *pins,
                     const struct cpuset *reserved)
{
    const struct cpuset *vcpus = instance_numa_cell_pcpuset(guest);
    struct json_object *map = json_object_new_object();

    for (size_t i = 0; i < vcpus->n; i++) {
        CLEANUP(freep) char *vcpu = str_printf("%u", vcpus->items[i]);

        jv_add_int(map, vcpu, pins[i]);
    }
    instance_numa_cell_set_cpu_pinning_raw(guest, map);
    instance_numa_cell_set_cpuset_reserved(guest, reserved->n ? reserved : NULL);
}

MUST_CHECK static char *fit_pins(const struct numa_cell *host, struct instance_numa_cell *guest,
                                 bool wants_emulator_cpu)
{
    size_t n = CPUS(instance_numa_cell, guest, pcpuset)->n;
    CLEANUP(freep) unsigned *pins = NEW_ARRAY(unsigned, n);
    CLEANUP(cpuset_fini) struct cpuset is_free = free_pcpus(host), pinned = {0}, reserved = {0};
    CLEANUP(cores_fini) struct cores c = cores_of(host);
    unsigned emulator_cpu;
    char *why = lack("CPUs to pin", (int64_t)n + wants_emulator_cpu, (int64_t)is_free.n);

    why = why ? why
              : lack("memory in MiB", AMOUNT(instance_numa_cell, guest, memory), free_memory(host));
    /* Nova takes a cell without CPUs to pin for one that cannot be pinned. */
    why = why ? why : n ? pick_pins(host, guest, &c, pins, n) : str_dup("no CPUs to pin");
    if (why) {
        return why;
    }
    for (size_t i = 0; i < n; i++) {
        cpuset_add(&pinned, pins[i]);
    }
    if (wants_emulator_cpu) {
        if (!pick_emulator_cpu(&c, &pinned, has_thread_policy(guest, "isolate"), &emulator_cpu)) {
            return lack("CPUs for emulator threads", 1, 0);
        }
        cpuset_add(&reserved, emulator_cpu);
    }
    set_pins(guest, pins, &reserved);
    return NULL;
}

static int64_t room(int64_t size, double ratio, int64_t used)
{
    double limit = (double)size * ratio;

    return (limit < 0 ? 0 : limit < (double)MAX_AMOUNT ? (int64_t)limit : MAX_AMOUNT) - used;
}

/* Limits are of sharing: what is dedicated is not overcommitted anyway. */
MUST_CHECK static char *check_limits(const struct numa_cell *host,
                                     const struct instance_numa_cell *guest,
                                     const struct numa_topology_limits *limits)
{
    char *why = NULL;

    if (numa_topology_limits_has_cpu_allocation_ratio(limits)) {
        why = lack("shared CPUs", (int64_t)CPUS(instance_numa_cell, guest, cpuset)->n,
                   room((int64_t)CPUS(numa_cell, host, cpuset)->n,
                        numa_topology_limits_cpu_allocation_ratio(limits),
                        AMOUNT(numa_cell, host, cpu_usage)));
    }
    if (!why && numa_topology_limits_has_ram_allocation_ratio(limits)) {
        why = lack("memory in MiB", AMOUNT(instance_numa_cell, guest, memory),
                   room(AMOUNT(numa_cell, host, memory),
                        numa_topology_limits_ram_allocation_ratio(limits),
                        AMOUNT(numa_cell, host, memory_usage)));
    }
    return why;
}

/* Puts a guest cell, which is a copy, on a host cell; or says why not. */
MUST_CHECK static char *fit_cell(const struct numa_cell *host, struct instance_numa_cell *guest,
                                 const struct numa_topology_limits *limits, bool wants_emulator_cpu)
{
    char *why = fit_memory(host, guest);

    if (!why && is_shared(guest)) {
        why = lack("CPUs", (int64_t)CPUS(instance_numa_cell, guest, cpuset)->n,
                   (int64_t)CPUS(numa_cell, host, cpuset)->n);
    }
    if (!why && is_pinned(guest)) {
        why = fit_pins(host, guest, wants_emulator_cpu);
    }
    if (!why && is_shared(guest) && limits) {
        why = check_limits(host, guest, limits);
    }
    instance_numa_cell_set_id(guest, numa_cell_id(host));
    return why;
}

/* ---- Which guest cell on which host cell ---- */

struct fit {
    struct instance_numa_cell *cell; /* The guest cell as it would be there. */
    char *why_not;                   /* NULL: it fits. */
};

/* A network with affinity to some host cells: the server must have one of them. */
struct demand {
    const char *network;
    struct cpuset cells; /* Indices. */
};

struct search {
    const struct numa_topology *host;
    size_t n_host, n_guest;
    struct fit *fits; /* Of guest g on host h: fits[g * n_host + h]. */
    size_t *order;    /* Host cells, the preferred ones first. */
    size_t *host_of;  /* Of each guest cell, or NONE. */
    bool *is_taken;   /* Of each host cell. */
    struct demand *demands;
    size_t n_demands;
};

static void search_fini(struct search *s)
{
    for (size_t i = 0; i < s->n_guest * s->n_host; i++) {
        instance_numa_cell_free(s->fits[i].cell);
        free(s->fits[i].why_not);
    }
    for (size_t i = 0; i < s->n_demands; i++) {
        cpuset_fini(&s->demands[i].cells);
    }
    free(s->fits);
    free(s->order);
    free(s->host_of);
    free(s->is_taken);
    free(s->demands);
}

static struct fit *fit_at(const struct search *s, size_t guest, size_t host)
{
    return &s->fits[guest * s->n_host + host];
}

/* Whether a is preferred to b: the one with fewer CPUs used, then with more memory free. */
static bool is_preferred(const struct numa_cell *a, const struct numa_cell *b, bool by_pins)
{
    CLEANUP(cpuset_fini) struct cpuset free_a = free_pcpus(a), free_b = free_pcpus(b);
    int64_t use_a = by_pins ? -(int64_t)free_a.n : AMOUNT(numa_cell, a, cpu_usage);
    int64_t use_b = by_pins ? -(int64_t)free_b.n : AMOUNT(numa_cell, b, cpu_usage);

    return use_a != use_b ? use_a < use_b : free_memory(a) > free_memory(b);
}

/* Nova's default, packing_host_numa_cells_allocation_strategy = False, spreads servers; a server
 * that takes all cells takes them as they come. */
static void put_in_order(struct search *s, bool by_pins)
{
    for (size_t i = 0; i < s->n_host; i++) {
        size_t at = i;

        for (; s->n_guest < s->n_host && at > 0 &&
               is_preferred(numa_topology_cells_at(s->host, i),
                            numa_topology_cells_at(s->host, s->order[at - 1]), by_pins);
             at--) {
            s->order[at] = s->order[at - 1];
        }
        s->order[at] = i;
    }
}

/* A demand is one only if some cell of the host is near the network; NULL stands for tunnels. */
static void add_demand(struct search *s, const char *physnet)
{
    struct demand d = {.network = physnet ? physnet : "tunnels"};

    for (size_t h = 0; h < s->n_host; h++) {
        const struct numa_cell *cell = numa_topology_cells_at(s->host, h);
        const struct network_metadata *near =
            numa_cell_has_network_metadata(cell) ? numa_cell_network_metadata(cell) : NULL;

        if (near &&
            (physnet ? network_metadata_has_physnets(near) &&
                           network_metadata_physnets_contains(near, physnet)
                     : network_metadata_has_tunneled(near) && network_metadata_tunneled(near))) {
            cpuset_add(&d.cells, (unsigned)h);
        }
    }
    if (d.cells.n) {
        s->demands = mem_realloc(s->demands, s->n_demands + 1, sizeof(d));
        s->demands[s->n_demands++] = d;
    }
}

static void add_demands(struct search *s, const struct numa_topology_limits *limits)
{
    const struct network_metadata *wanted =
        limits && numa_topology_limits_has_network_metadata(limits)
            ? numa_topology_limits_network_metadata(limits)
            : NULL;

    for (size_t i = 0; wanted && i < COUNT(network_metadata, wanted, physnets); i++) {
        add_demand(s, network_metadata_physnets_at(wanted, i));
    }
    if (wanted && network_metadata_has_tunneled(wanted) && network_metadata_tunneled(wanted)) {
        add_demand(s, NULL);
    }
}

static struct search search_init(const struct numa_topology *host,
                                 const struct instance_numa_topology *wanted,
                                 const struct numa_topology_limits *limits)
{
    struct search s = {
        .host = host,
        .n_host = COUNT(numa_topology, host, cells),
        .n_guest = COUNT(instance_numa_topology, wanted, cells),
    };
    bool is_isolated =
        str_eq(TEXT(instance_numa_topology, wanted, emulator_threads_policy), "isolate");

    s.fits = NEW_ARRAY(struct fit, s.n_guest * s.n_host);
    s.order = NEW_ARRAY(size_t, s.n_host);
    s.host_of = NEW_ARRAY(size_t, s.n_guest);
    s.is_taken = NEW_ARRAY(bool, s.n_host);
    for (size_t g = 0; g < s.n_guest; g++) {
        s.host_of[g] = NONE;
        for (size_t h = 0; h < s.n_host; h++) {
            struct fit *f = fit_at(&s, g, h);

            f->cell = instance_numa_cell_dup(instance_numa_topology_cells_at(wanted, g));
            /* The emulator's CPU is always next to the guest's first cell. */
            f->why_not =
                fit_cell(numa_topology_cells_at(host, h), f->cell, limits, is_isolated && g == 0);
        }
    }
    put_in_order(&s, s.n_guest && is_pinned(instance_numa_topology_cells_at(wanted, 0)));
    add_demands(&s, limits);
    return s;
}

static void place(struct search *s, size_t guest, size_t host)
{
    s->host_of[guest] = host;
    s->is_taken[host] = true;
}

static void take_back(struct search *s, size_t guest)
{
    s->is_taken[s->host_of[guest]] = false;
    s->host_of[guest] = NONE;
}

/* One round of bipartite matching; guest_of is what was matched so far. */
static bool match(const struct search *s, size_t guest, size_t *guest_of, bool *seen)
{
    for (size_t h = 0; h < s->n_host; h++) {
        if (!seen[h] && !fit_at(s, guest, h)->why_not) {
            seen[h] = true;
            if (guest_of[h] == NONE || match(s, guest_of[h], guest_of, seen)) {
                guest_of[h] = guest;
                return true;
            }
        }
    }
    return false;
}

/* Whether the guest cells without a place can all have one. */
static bool is_matchable(const struct search *s)
{
    CLEANUP(freep) size_t *guest_of = NEW_ARRAY(size_t, s->n_host);

    for (size_t h = 0; h < s->n_host; h++) {
        guest_of[h] = NONE;
    }
    for (size_t g = 0; g < s->n_guest; g++) {
        CLEANUP(freep) bool *seen = mem_dup(s->is_taken, s->n_host * sizeof(*seen));

        if (s->host_of[g] == NONE && !match(s, g, guest_of, seen)) {
            return false;
        }
    }
    return true;
}

static const struct demand *unmet_demand(const struct search *s)
{
    for (size_t i = 0; i < s->n_demands; i++) {
        const struct demand *d = &s->demands[i];
        bool is_met = false;

        for (size_t j = 0; j < d->cells.n; j++) {
            is_met = is_met || s->is_taken[d->cells.items[j]];
        }
        if (!is_met) {
            return d;
        }
    }
    return NULL;
}

/* Whether what is placed can be completed: each cell has a place and each network is near. */
static bool can_finish(struct search *s)
{
    const struct demand *d = unmet_demand(s);
    bool is_possible = is_matchable(s);

    if (!is_possible || !d) {
        return is_possible;
    }
    is_possible = false;
    for (size_t g = 0; !is_possible && g < s->n_guest; g++) {
        for (size_t j = 0; !is_possible && s->host_of[g] == NONE && j < d->cells.n; j++) {
            if (!fit_at(s, g, d->cells.items[j])->why_not) {
                place(s, g, d->cells.items[j]);
                is_possible = can_finish(s);
                take_back(s, g);
            }
        }
    }
    return is_possible;
}

/* The first of all permutations of host cells, as Nova tries them, without trying them all. */
static void place_all(struct search *s)
{
    for (size_t g = 0; g < s->n_guest; g++) {
        for (size_t i = 0; s->host_of[g] == NONE && i < s->n_host; i++) {
            size_t h = s->order[i];

            if (!s->is_taken[h] && !fit_at(s, g, h)->why_not) {
                place(s, g, h);
                if (!can_finish(s)) {
                    take_back(s, g);
                }
            }
        }
        assert(s->host_of[g] != NONE);
    }
}

/* ---- Refusals ---- */

/* The guest cell that fits nowhere, or NONE. */
static size_t find_misfit(const struct search *s)
{
    for (size_t g = 0; g < s->n_guest; g++) {
        bool fits_nowhere = true;

        for (size_t h = 0; h < s->n_host; h++) {
            fits_nowhere = fits_nowhere && fit_at(s, g, h)->why_not;
        }
        if (fits_nowhere) {
            return g;
        }
    }
    return NONE;
}

/* A cell that fits nowhere is the reason; else all cells that do not fit everywhere are. */
MUST_CHECK static struct err *refuse(const struct search *s)
{
    CLEANUP(strbuf_fini) struct strbuf why = {0};
    size_t misfit = find_misfit(s);

    if (s->n_guest > s->n_host) {
        strbuf_addf(&why, "the server has %zu NUMA cells, the host %zu", s->n_guest, s->n_host);
    } else if (is_matchable(s)) {
        strbuf_add(&why, "the server's NUMA cells do not fit on host cells near its networks:");
        for (size_t i = 0; i < s->n_demands; i++) {
            CLEANUP(freep) char *cells = cpuset_text(&s->demands[i].cells);

            strbuf_addf(&why, "%s %s (host cell %s)", i ? "," : "", s->demands[i].network, cells);
        }
    } else {
        strbuf_add(&why, misfit != NONE ? "the server fits no NUMA cell of the host"
                                        : "the server's NUMA cells fit, but not all at once");
        for (size_t i = 0; i < s->n_guest * s->n_host; i++) {
            size_t g = i / s->n_host, h = i % s->n_host;

            if (s->fits[i].why_not && (misfit == NONE || misfit == g)) {
                strbuf_addf(&why, "; cell %zu on host cell %lld: %s", g,
                            (long long)numa_cell_id(numa_topology_cells_at(s->host, h)),
                            s->fits[i].why_not);
            }
        }
    }
    return err_new(ERR_COMPUTE_RESOURCES_UNAVAILABLE, "reason", why.s, NULL);
}

struct err *numa_fit(const struct numa_topology *host, const struct instance_numa_topology *wanted,
                     const struct numa_topology_limits *limits, struct instance_numa_topology **ret)
{
    CLEANUP(search_fini) struct search s = search_init(host, wanted, limits);
    struct instance_numa_topology *fitted;

    if (s.n_guest > s.n_host || !can_finish(&s)) {
        return refuse(&s);
    }
    place_all(&s);
    fitted = instance_numa_topology_new();
    instance_numa_topology_clear_cells(fitted);
    for (size_t g = 0; g < s.n_guest; g++) {
        instance_numa_topology_cells_add(fitted, TAKE(fit_at(&s, g, s.host_of[g])->cell));
    }
    instance_numa_topology_set_emulator_threads_policy(
        fitted, TEXT(instance_numa_topology, wanted, emulator_threads_policy));
    *ret = fitted;
    return NULL;
}

/* ---- Usage ---- */

static void count_pages(struct numa_cell *host, const struct instance_numa_cell *guest, int sign)
{
    struct numa_pages_topology *smallest = smallest_pages(host);
    int64_t size = asked_pagesize(guest);

    if (!size && smallest) {
        size = page_size(smallest);
    }
    for (size_t i = 0; size > 0 && i < COUNT(numa_cell, host, mempages); i++) {
        struct numa_pages_topology *p = numa_cell_mempages_at(host, i);

        if (page_size(p) == size) {
            int64_t n = AMOUNT(instance_numa_cell, guest, memory) * 1024 / size;

            numa_pages_topology_set_used(p, clamp(AMOUNT(numa_pages_topology, p, used) + sign * n));
        }
    }
}

/* What a guest cell has for itself: with isolate also the idle siblings. */
static struct cpuset cpus_held(const struct numa_cell *host, const struct instance_numa_cell *guest)
{
    struct json_object *pins = TEXT(instance_numa_cell, guest, cpu_pinning_raw);
    struct cpuset held = cpuset_dup(CPUS(instance_numa_cell, guest, cpuset_reserved));

    if (pins) {
        json_object_object_foreach(pins, vcpu, pcpu)
        {
            (void)vcpu;
            add_cpu(&held, pcpu);
        }
    }
    for (size_t i = 0; has_thread_policy(guest, "isolate") && i < n_siblings(host); i++) {
        CLEANUP(cpuset_fini) struct cpuset core = siblings(host, i);

        for (size_t j = 0; !cpuset_is_disjoint(&core, &held) && j < core.n; j++) {
            cpuset_add(&held, core.items[j]);
        }
    }
    return held;
}

static void count_cell(struct numa_cell *host, const struct instance_numa_cell *guest, int sign)
{
    int64_t n_shared = (int64_t)CPUS(instance_numa_cell, guest, cpuset)->n;

    count_pages(host, guest, sign);
    numa_cell_set_memory_usage(host, clamp(AMOUNT(numa_cell, host, memory_usage) +
                                           sign * AMOUNT(instance_numa_cell, guest, memory)));
    numa_cell_set_cpu_usage(host, clamp(AMOUNT(numa_cell, host, cpu_usage) + sign * n_shared));
    if (is_pinned(guest)) {
        const struct cpuset *before = CPUS(numa_cell, host, pinned_cpus);
        CLEANUP(cpuset_fini) struct cpuset held = cpus_held(host, guest);
        CLEANUP(cpuset_fini)
        struct cpuset after = sign > 0 ? cpuset_union(before, &held) : cpuset_diff(before, &held);

        numa_cell_set_pinned_cpus(host, &after);
    }
}

void numa_count_usage(struct numa_topology *host, const struct instance_numa_topology *t, int sign)
{
    for (size_t h = 0; h < COUNT(numa_topology, host, cells); h++) {
        struct numa_cell *cell = numa_topology_cells_at(host, h);

        for (size_t g = 0; g < COUNT(instance_numa_topology, t, cells); g++) {
            const struct instance_numa_cell *guest = instance_numa_topology_cells_at(t, g);

            if (instance_numa_cell_has_id(guest) &&
                instance_numa_cell_id(guest) == numa_cell_id(cell)) {
                count_cell(cell, guest, sign);
            }
        }
    }
}

#pragma once

/* What the files of the fake libvirt share: files, errors, events and states of domains. */

#include "base/clock.h"
#include "base/err.h"
#include "base/str.h"
#include "tests/fake/lv_fake.h"

#include <inttypes.h>

struct lv_domain {
    char *dir;
    char uuid[UUID_LEN + 1];
};

/* The folder of a connection's host. */
const char *fake_conn_dir(const struct lv_conn *);

/* ---- Files ---- */
char *fake_in(const char *dir, const char *fmt, ...) PRINTF(2, 3) MUST_CHECK;
bool fake_exists(const char *dir, const char *prefix, const char *uuid);
void fake_drop(const char *dir, const char *folder, const char *uuid, const char *suffix);
void fake_append(const char *dir, const char *name, const char *line);
/* A line of the file "calls". */
void fake_note(const struct lv_domain *, const char *fmt, ...) PRINTF(2, 3);
/* The value of a line "NAME VALUE", or NULL. */
char *fake_value_in(const char *text, const char *name) MUST_CHECK;
uint64_t fake_text_u64(const char *text, const char *name);
char *fake_fact(const char *dir, const char *name, const char *def) MUST_CHECK;
uint64_t fake_fact_u64(const char *dir, const char *name, uint64_t def);
/* Of the file "guest.UUID", else "guest": how a guest behaves. */
char *fake_habit(const struct lv_domain *, const char *name) MUST_CHECK;
uint64_t fake_habit_u64(const struct lv_domain *, const char *name, uint64_t def);
/* Whether this time is one of the first N, where N is a habit. */
bool fake_habit_counts(const struct lv_domain *, const char *name);

/* ---- Errors ---- */
struct err *fake_refused(const char *name, const char *text) MUST_CHECK;
struct err *fake_check_up(const char *dir) MUST_CHECK;
struct err *fake_check_domain(const struct lv_domain *) MUST_CHECK;

/* ---- Events and states ---- */
int fake_index_of(const char *const *names, size_t n, const char *name);
void fake_tell(const char *dir, const char *uuid, const char *what);
void fake_set_state(const char *dir, const char *uuid, const char *state);
enum lv_state fake_get_state(const char *dir, const char *uuid, int *ret_reason);
bool fake_is_active(enum lv_state);
/* Off, with what was defined meanwhile. */
void fake_stop(const struct lv_domain *, const char *state, const char *event);
void fake_start_thread(void *(*fn)(void *), void *arg);
/* 'fn' on a thread of its own when 'ms' are over; at once for 0. */
void fake_later(const struct lv_domain *, uint64_t ms, const char *text,
                void (*fn)(const struct lv_domain *, const char *text));

/* ---- Moves ---- */
/* The host's folder of a URI. */
char *fake_dir_of(const char *uri) MUST_CHECK;
bool fake_has_job(const struct lv_domain *);
/* The moves of a process that has died go on in this one. */
void fake_adopt_jobs(const char *dir);

/* ---- XML, as far as text goes ---- */
/* The text of the first element of a name, or NULL. */
char *fake_element(const char *xml, const char *name) MUST_CHECK;
/* A device's element is put into a domain's XML, with an alias if it has none; false if there is no
 * place. */
bool fake_xml_insert(char **xml, const char *device);
/* Taken out: the one with the same alias, MAC, target or text.  *ret_alias is "" or its alias. */
bool fake_xml_remove(char **xml, const char *device, char **ret_alias);
/* Every device gets an alias, as libvirt does when it starts a domain. */
char *fake_xml_with_aliases(const char *xml) MUST_CHECK;

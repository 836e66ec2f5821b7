/* Writes what is made of the table of options:
 *
 *     confgen sample    the sample file novashim.conf.sample
 *     confgen man       the list of options in the manual page novashim.conf(5)
 */

#include "base/conf_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WIDTH 78

static const char *const type_names[] = {
    [CONF_TYPE_BOOL] = "True or false",
    [CONF_TYPE_INT] = "Whole number",
    [CONF_TYPE_FLOAT] = "Number",
    [CONF_TYPE_STR] = "Text",
    [CONF_TYPE_LIST] = "List, separated by commas",
    [CONF_TYPE_MULTI] = "Text, may be repeated",
    [CONF_TYPE_DICTS] = "KEY:VALUE separated by commas, may be repeated",
};

static const char *const form_names[] = {
    [CONF_FORM_ANY] = NULL,
    [CONF_FORM_HOST_ADDRESS] = "IP address or host name",
    [CONF_FORM_HOST_DOMAIN] = "IP address or host name",
    [CONF_FORM_URI] = "URI",
};

/* What kind of value it takes, in one sentence. */
static char *describe_type(const struct conf_opt *opt)
{
    const char *form = form_names[opt->form];
    struct strbuf text = {0};

    strbuf_add(&text, form ? form : type_names[opt->type]);
    if (opt->min && opt->max) {
        strbuf_addf(&text, ", %g to %g", *opt->min, *opt->max);
    } else if (opt->min) {
        strbuf_addf(&text, ", at least %g", *opt->min);
    }
    for (const char *const *c = opt->choices; c && *c; c++) {
        strbuf_addf(&text, "%s%s", c == opt->choices ? ": " : ", ", *c);
    }
    strbuf_addc(&text, '.');
    return strbuf_take(&text);
}

static char *describe_rest(const struct conf_opt *opt)
{
    struct strbuf text = {0};

    if (opt->flags & CONF_MUTABLE) {
        strbuf_add(&text, " Follows a reload.");
    }
    if (opt->flags & CONF_SECRET) {
        strbuf_add(&text, " Secret.");
    }
    for (const struct conf_name *o = opt->old; o && o->name; o++) {
        strbuf_addf(&text, "%s[%s]%s%s", o == opt->old ? " Older names: " : ", ",
                    o->group ? o->group : opt->group, o->name, o[1].name ? "" : ".");
    }
    return strbuf_take(&text);
}

/* The default as it would stand in a file, or what there is instead. */
static char *default_text(const struct conf_opt *opt)
{
    size_t len = opt->def ? strlen(opt->def) : 0;

    if (opt->flags & CONF_COMPUTED) {
        return str_dup("<found out at start>");
    }
    if (!opt->def || (opt->type == CONF_TYPE_MULTI && !len)) {
        return str_dup("<unset>");
    }
    return str_printf(len && opt->def[len - 1] == ' ' ? "\"%s\"" : "%s", opt->def);
}

/* Prints a paragraph as a comment. */
static void print_comment(const char *text)
{
    size_t column = 0;

    for (const char *word = text; *word;) {
        size_t len = strcspn(word, " ");

        if (column && column + 1 + len > WIDTH) {
            putchar('\n');
            column = 0;
        }
        column += (size_t)printf("%s%.*s", column ? " " : "# ", (int)len, word);
        word += len;
        word += strspn(word, " ");
    }
    putchar('\n');
}

static void print_sample_option(const struct conf_opt *opt)
{
    CLEANUP(freep) char *type = describe_type(opt);
    CLEANUP(freep) char *rest = describe_rest(opt);
    CLEANUP(freep) char *all = str_printf("(%s%s)", type, rest);
    CLEANUP(freep) char *def = default_text(opt);

    putchar('\n');
    print_comment(opt->help);
    print_comment(all);
    printf("#%s = %s\n", opt->name, def);
}

static void print_sample(void)
{
    puts("# Sample of the options that novashim knows, with their defaults.  It reads nova.conf,\n"
         "# so a file for nova-compute can be used as it is.  See novashim.conf(5).");
    for (size_t g = 0; g < conf_n_groups; g++) {
        printf("\n\n[%s]\n", conf_groups[g].name);
        print_comment(conf_groups[g].help);
        for (size_t i = 0; i < conf_n_opts; i++) {
            if (str_eq(conf_opts[i].group, conf_groups[g].name)) {
                print_sample_option(&conf_opts[i]);
            }
        }
    }
}

/* Text as roff wants it. */
static void print_roff(const char *text)
{
    if (*text == '.' || *text == '\'') {
        fputs("\\&", stdout);
    }
    for (const char *c = text; *c; c++) {
        if (*c == '\\') {
            fputs("\\e", stdout);
        } else if (*c == '-') {
            fputs("\\-", stdout);
        } else {
            putchar(*c);
        }
    }
}

static void print_man_option(const struct conf_opt *opt)
{
    CLEANUP(freep) char *type = describe_type(opt);
    CLEANUP(freep) char *rest = describe_rest(opt);
    CLEANUP(freep) char *def = default_text(opt);

    fputs(".TP\n.B ", stdout);
    print_roff(opt->name);
    putchar('\n');
    print_roff(opt->help);
    fputs("\n.br\n", stdout);
    print_roff(type);
    if (!(opt->flags & CONF_COMPUTED)) {
        fputs(" Default: ", stdout);
        print_roff(*def ? def : "empty");
        putchar('.');
    }
    print_roff(rest);
    putchar('\n');
}

static void print_man(void)
{
    puts(".SH OPTIONS\n.ad l");
    for (size_t g = 0; g < conf_n_groups; g++) {
        printf(".SS [%s]\n", conf_groups[g].name);
        print_roff(conf_groups[g].help);
        putchar('\n');
        for (size_t i = 0; i < conf_n_opts; i++) {
            if (str_eq(conf_opts[i].group, conf_groups[g].name)) {
                print_man_option(&conf_opts[i]);
            }
        }
    }
}

int main(int argc, char **argv)
{
    if (argc == 2 && str_eq(argv[1], "sample")) {
        print_sample();
    } else if (argc == 2 && str_eq(argv[1], "man")) {
        print_man();
    } else {
        fputs("usage: confgen sample | man\n", stderr);
        return 2;
    }
    return fflush(stdout) ? 1 : 0;
}

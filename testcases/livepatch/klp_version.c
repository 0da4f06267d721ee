// SPDX-License-Identifier: GPL-2.0-only
// harness: needs CONFIG_LIVEPATCH
/* A livepatch that replaces what /proc/version prints. */
#include <linux/seq_file.h>

#include "klp_patch.h"

static int harness_version_proc_show(struct seq_file *m, void *v)
{
	seq_puts(m, "patched by klp_version\n");
	return 0;
}

static struct klp_func funcs[] = {
	{ .old_name = "version_proc_show", .new_func = harness_version_proc_show },
	{ }
};

static struct klp_object objects[] = {
	{ /* name NULL: the kernel proper */ .funcs = funcs },
	{ }
};

static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects };

KLP_MODULE("livepatch of version_proc_show");
MODULE_LICENSE("GPL");

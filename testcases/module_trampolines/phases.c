// SPDX-License-Identifier: GPL-2.0-only
/*
 * A module to be caught in every phase of its life. Its initialisation makes its directory in debugfs inside two
 * functions whose text is freed afterwards, so who is held at debugfs_create_dir() sleeps in these. "call" calls a
 * function that stays.
 */
#include "harness_test.h"

#define traced __attribute__((__noinline__)) __used
#define hide(variable) asm volatile("" : "+r"(variable))

int phases_init_inner(void);
int phases_init_outer(void);
u64 phases_stays(u64 value);

static bool fail;
module_param(fail, bool, 0444);
MODULE_PARM_DESC(fail, "the initialisation fails in the end");

traced u64 phases_stays(u64 value)
{
	hide(value);
	return value + 1;
}

static notrace int show_call(struct seq_file *m, void *unused)
{
	seq_printf(m, "%llx\n", phases_stays(0x100));
	return 0;
}

static const struct harness_file files[] = {
	{ .name = "call", .show = show_call },
	{ }
};

traced __init int phases_init_inner(void)
{
	int ret = harness_files(files);

	hide(ret);
	return ret;
}

traced __init int phases_init_outer(void)
{
	int ret = phases_init_inner();

	hide(ret);
	return ret;
}

static int __init notrace phases_start(void)
{
	int ret = phases_init_outer();

	if (!ret && fail) {
		harness_files_remove();
		ret = -EDOM;
	}
	return ret;
}

static void __exit notrace phases_stop(void)
{
	harness_files_remove();
}

module_init(phases_start);
module_exit(phases_stop);
MODULE_DESCRIPTION("a module to be caught in every phase of its life");
MODULE_LICENSE("GPL");

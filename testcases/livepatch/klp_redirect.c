// SPDX-License-Identifier: GPL-2.0-only
// harness: needs CONFIG_LIVEPATCH
/*
 * Others that send klp_target_name elsewhere, as a livepatch does: an ftrace_ops that may change the ip, and a kprobe
 * that does. Load klp_target first.
 */
#include "harness_ops.h"
#include "harness_test.h"

static const char *klp_redirect_name(void)
{
	return "klp_redirect";
}

HARNESS_REDIRECT(redirect, klp_redirect_name)

static struct ftrace_ops ops = { .func = redirect, .flags = HARNESS_REDIRECT_FLAGS };
static bool ops_on;

static int set_ops(bool on)
{
	int ret;

	if (on == ops_on)
		return 0;
	if (on) {
		char name[] = "klp_target_name";

		ret = ftrace_set_filter(&ops, (unsigned char *)name, strlen(name), 1);
		if (!ret)
			ret = register_ftrace_function(&ops);
	} else {
		ret = unregister_ftrace_function(&ops);
		harness_free_filter(&ops);
	}
	if (!ret)
		ops_on = on;
	return ret;
}

static int before(struct kprobe *probe, struct pt_regs *regs)
{
	instruction_pointer_set(regs, (unsigned long)klp_redirect_name);
	return 1; /* it goes on there */
}

static struct kprobe probe = { .pre_handler = before };
static bool probe_on;

static int set_probe(bool on)
{
	int ret = 0;

	if (on == probe_on)
		return 0;
	if (on) {
		probe = (struct kprobe) { .symbol_name = "klp_target_name", .pre_handler = before };
		ret = register_kprobe(&probe);
	} else {
		unregister_kprobe(&probe);
	}
	if (!ret)
		probe_on = on;
	return ret;
}

static int ops_store(char *line)
{
	return set_ops(*line == '1');
}

static int probe_store(char *line)
{
	return set_probe(*line == '1');
}

static const struct harness_file files[] = {
	{ "ops", NULL, ops_store },
	{ "probe", NULL, probe_store },
	{ }
};

static int __init klp_redirect_init(void)
{
	return harness_files(files);
}

static void __exit klp_redirect_exit(void)
{
	harness_files_remove();
	set_ops(false);
	set_probe(false);
}

module_init(klp_redirect_init);
module_exit(klp_redirect_exit);
MODULE_DESCRIPTION("an ftrace_ops and a kprobe that change the ip");
MODULE_LICENSE("GPL");

/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The body of the livepatches klp_state_one and klp_state_two: both change the same state of the system, a number,
 * which a later one takes over from an earlier one.
 */
#include "klp_patch.h"

#define KLP_STATE_NUMBER 4

static unsigned int version = 1;
module_param(version, uint, 0444);
MODULE_PARM_DESC(version, "of the state; 0: knows nothing of the state");

static bool replace;
module_param(replace, bool, 0444);
MODULE_PARM_DESC(replace, "take the place of all livepatches there are");

static unsigned long number = 17;
module_param(number, ulong, 0444);
MODULE_PARM_DESC(number, "kept in the state, where no earlier patch has left one");

static char log[512];

static struct klp_state states[] = {
	{ .id = KLP_STATE_NUMBER },
	{ }
};

static int klp_state_pre_patch(struct klp_object *obj);

static struct klp_func no_funcs[] = { { } };

static struct klp_object objects[] = {
	{ .funcs = no_funcs, .callbacks = { .pre_patch = klp_state_pre_patch } },
	{ }
};

static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects };

/* Take the number over from the patch that has the state now. */
static int klp_state_pre_patch(struct klp_object *obj)
{
	struct klp_state *before = klp_get_prev_state(KLP_STATE_NUMBER);
	struct klp_state *ours = klp_get_state(&patch, KLP_STATE_NUMBER);

	if (before)
		scnprintf(log, sizeof(log), "version %u, number %lu", before->version, (unsigned long)before->data);
	else
		scnprintf(log, sizeof(log), "none");
	if (ours)
		ours->data = before ? before->data : (void *)number;
	return 0;
}

/* What the pre-patch callback found, and what this patch has now. */
static int before_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "%s\n", log);
	return 0;
}

static int now_show(struct seq_file *m, void *unused)
{
	struct klp_state *ours = klp_get_state(&patch, KLP_STATE_NUMBER);

	if (ours)
		seq_printf(m, "version %u, number %lu\n", ours->version, (unsigned long)ours->data);
	else
		seq_puts(m, "none\n");
	seq_printf(m, "another state: %s\n", klp_get_state(&patch, KLP_STATE_NUMBER + 1) ? "found" : "none");
	return 0;
}

static const struct harness_file files[] = {
	{ "before", before_show },
	{ "now", now_show },
	{ }
};

static int __init klp_state_init(void)
{
	int ret = harness_files(files);

	if (ret)
		return ret;
	states[0].version = version;
	patch.states = version ? states : NULL;
	ret = harness_set_replace(&patch, replace) ?: harness_enable_patch(&patch);
	if (ret)
		harness_files_remove();
	return ret;
}

static void __exit klp_state_exit(void)
{
	harness_forget_patch(&patch);
	harness_files_remove();
}

module_init(klp_state_init);
module_exit(klp_state_exit);
KLP_MODULE_INFO("livepatch that changes a state of the system");

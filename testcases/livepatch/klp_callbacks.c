// SPDX-License-Identifier: GPL-2.0-only
// harness: needs CONFIG_LIVEPATCH
/*
 * A livepatch with callbacks for the kernel proper, for klp_target and for klp_stacks, of which it replaces functions
 * to sleep in. What was called when is in the file "log".
 */
#include "klp_patch.h"

static char *refuse = "";
module_param(refuse, charp, 0644);
MODULE_PARM_DESC(refuse, "the object whose pre-patch callback says no");

static char log[1024];
static DEFINE_SPINLOCK(log_lock);

static void note(const char *callback, struct klp_object *obj)
{
	static const char *const states[] = {
		[MODULE_STATE_LIVE] = "live",
		[MODULE_STATE_COMING] = "coming",
		[MODULE_STATE_GOING] = "going",
		[MODULE_STATE_UNFORMED] = "unformed",
	};
	size_t used;

	spin_lock(&log_lock);
	used = strlen(log);
	scnprintf(log + used, sizeof(log) - used, "%s %s%s%s\n", callback, obj->name ?: "vmlinux",
		  obj->mod ? " " : "", obj->mod ? states[obj->mod->state] : "");
	spin_unlock(&log_lock);
}

static int pre_patch(struct klp_object *obj)
{
	note("pre_patch", obj);
	return strcmp(refuse, obj->name ?: "vmlinux") ? 0 : -EDOM;
}

static void post_patch(struct klp_object *obj)
{
	note("post_patch", obj);
}

static void pre_unpatch(struct klp_object *obj)
{
	note("pre_unpatch", obj);
}

static void post_unpatch(struct klp_object *obj)
{
	note("post_unpatch", obj);
}

/* The call is farther from the beginning than the old function is long. */
static int klp_callbacks_caller(int (*callee)(void))
{
	int got;

	asm volatile(".rept 256\n	nop\n	.endr");
	got = callee();

	return got < 0 ? got : got + 3000;
}

static int klp_callbacks_outer(int depth)
{
	return depth;
}

static struct klp_func no_funcs[] = { { } };

static struct klp_func target_funcs[] = {
	{ .old_name = "klp_target_caller", .new_func = klp_callbacks_caller },
	{ }
};

static struct klp_func stacks_funcs[] = {
	{ .old_name = "klp_stacks_outer", .new_func = klp_callbacks_outer },
	{ }
};

#define CALLBACKS {				\
	.pre_patch = pre_patch,			\
	.post_patch = post_patch,		\
	.pre_unpatch = pre_unpatch,		\
	.post_unpatch = post_unpatch,		\
}

static struct klp_object objects[] = {
	{ .funcs = no_funcs, .callbacks = CALLBACKS },
	{ .name = "klp_target", .funcs = target_funcs, .callbacks = CALLBACKS },
	{ .name = "klp_stacks", .funcs = stacks_funcs, .callbacks = CALLBACKS },
	{ }
};

static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects };

static int log_show(struct seq_file *m, void *unused)
{
	seq_puts(m, log);
	return 0;
}

static int log_store(char *line)
{
	log[0] = '\0';
	return 0;
}

static const struct harness_file files[] = {
	{ "log", log_show, log_store },
	{ }
};

static int __init klp_callbacks_init(void)
{
	int ret = harness_files(files);

	if (ret)
		return ret;
	ret = harness_enable_patch(&patch);
	if (ret) {
		/* nobody can read the file any more */
		strreplace(log, '\n', ';');
		pr_info("callbacks until then: %s\n", log);
		harness_files_remove();
	}
	return ret;
}

static void __exit klp_callbacks_exit(void)
{
	harness_forget_patch(&patch);
	harness_files_remove();
}

module_init(klp_callbacks_init);
module_exit(klp_callbacks_exit);
KLP_MODULE_INFO("livepatch with callbacks");
MODULE_LICENSE("GPL");

// SPDX-License-Identifier: GPL-2.0-only
/*
 * How often does a CPU execute the first of two instructions before they are patched, and the second one after that?
 *
 * CPU 1 calls a function that begins with two NOPs as fast as it can. Whoever writes a number to
 * /sys/kernel/debug/two_nops_chance/{together,apart} patches both, on another CPU, as v6 of "arm64: ftrace with regs"
 * did: "mov x9, x30" in place of the first, then "bl" in place of the second, and back; that often. The function that
 * is called finds x9 wrong whenever the first instruction was executed as a NOP, and counts it. "together": both
 * instructions are in one page; "apart": the second one begins a page. A read returns "calls N traced N lost N".
 */
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/kernel.h>
#include <linux/kprobes.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/uaccess.h>
#include <asm/insn.h>

#define MOV_X9_X30 0xaa1e03e9u
#define NOP 0xd503201fu
#define BL(from, to) (0x94000000u | ((((unsigned long)(to) - (unsigned long)(from)) >> 2) & 0x3ffffffu))
#define ROUNDS 1000

extern u32 chance_together[], chance_apart[], chance_called[];

/* called: x10 is the return address of the function that was entered, x30 that of the branch, x11 and x12 count */
asm(".pushsection .text, \"ax\"\n"
"	.balign	4096\n"
"chance_together:\n"
"	nop\n"
"	nop\n"
"	ret\n"
"chance_called:\n"
"	mov	x13, x30\n"
"	mov	x30, x10\n"
"	add	x12, x12, #1\n"
"	cmp	x9, x10\n"
"	cinc	x11, x11, ne\n"
"	ret	x13\n"
"	.skip	4092 - (. - chance_together)\n"
"chance_apart:\n"
"	nop\n"
"	nop\n"
"	ret\n"
"	.balign	4096\n"
"	.popsection\n");

static unsigned long calls, traced, lost;
static u32 *hammered;
static struct dentry *directory;
static int (*patch)(void *address, u32 instruction);

static int hammer(void *unused)
{
	while (!kthread_should_stop()) {
		register unsigned long wrong asm("x11") = 0;
		register unsigned long seen asm("x12") = 0;
		register unsigned long left asm("x14") = ROUNDS;
		register u32 *function asm("x15") = hammered;

		asm volatile("1:	mov	x9, #0\n"
			     "	adr	x10, 2f\n"
			     "	blr	x15\n"
			     "2:	subs	x14, x14, #1\n"
			     "	b.ne	1b\n"
			     : "+r" (wrong), "+r" (seen), "+r" (left), "+r" (function)
			     : : "x9", "x10", "x13", "x30", "cc", "memory");
		calls += ROUNDS;
		traced += seen;
		lost += wrong;
		cond_resched();
	}
	return 0;
}

static int patch_times(u32 *function, unsigned long times)
{
	struct task_struct *task;
	int ret = 0;

	hammered = function;
	calls = traced = lost = 0;
	task = kthread_create(hammer, NULL, "chance");
	if (IS_ERR(task))
		return PTR_ERR(task);
	kthread_bind(task, 1);
	wake_up_process(task);
	while (times-- && !ret && !fatal_signal_pending(current)) {
		ret = patch(function, MOV_X9_X30) ?: patch(function + 1, BL(function + 1, chance_called));
		udelay(20);
		ret = ret ?: patch(function + 1, NOP) ?: patch(function, NOP);
		udelay(20);
		cond_resched();
	}
	kthread_stop(task);
	return ret;
}

static ssize_t chance_write(struct file *file, const char __user *from, size_t size, loff_t *pos)
{
	unsigned long times;
	int ret = kstrtoul_from_user(from, size, 0, &times);

	ret = ret ?: patch_times(file_inode(file)->i_private, times);
	return ret ?: size;
}

static int chance_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "calls %lu traced %lu lost %lu\n", calls, traced, lost);
	return 0;
}

static int chance_open(struct inode *inode, struct file *file)
{
	return single_open(file, chance_show, NULL);
}

static const struct file_operations chance_fops = {
	.owner = THIS_MODULE,
	.open = chance_open,
	.read = seq_read,
	.write = chance_write,
	.llseek = seq_lseek,
	.release = single_release,
};

static int __init chance_init(void)
{
	unsigned long (*lookup)(const char *name);
	struct kprobe probe = { .symbol_name = "kallsyms_lookup_name" };
	int ret = register_kprobe(&probe);

	if (ret)
		return ret;
	lookup = (void *)probe.addr;
	unregister_kprobe(&probe);
	patch = (void *)lookup("aarch64_insn_patch_text_nosync");
	if (!patch)
		return -ENOENT;
	directory = debugfs_create_dir("two_nops_chance", NULL);
	debugfs_create_file("together", 0600, directory, chance_together, &chance_fops);
	debugfs_create_file("apart", 0600, directory, chance_apart, &chance_fops);
	return 0;
}

static void __exit chance_exit(void)
{
	debugfs_remove_recursive(directory);
}

module_init(chance_init);
module_exit(chance_exit);
MODULE_DESCRIPTION("Counts calls that were stopped between two instructions while these were patched");
MODULE_LICENSE("GPL");

/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the test modules share: files in debugfs that run code of the module and print what came of it, and a way to
 * functions of the kernel that are not exported. For kernels 4.20 to 7.3.
 *
 * Everything here is notrace, so that a filter ":mod:NAME" means the module's own functions only.
 */
#ifndef HARNESS_TEST_H
#define HARNESS_TEST_H

#include <linux/debugfs.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/kernel.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

/*
 * The result of what can't go on because this kernel lacks `what`; the tests that asked for it are skipped with these
 * words (harness/run/api/modules.py).
 */
static notrace int __maybe_unused harness_lacks(const char *what)
{
	printk(KERN_ERR KBUILD_MODNAME ": this kernel lacks %s\n", what);
	return -EOPNOTSUPP;
}

/* What a parameter's get prints into its page; sysfs_emit() is from 5.10. */
#define harness_emit(buffer, ...) scnprintf(buffer, PAGE_SIZE, __VA_ARGS__)

/* A file of the module: show prints what a read returns, store gets the line written; either may be NULL. */
struct harness_file {
	const char *name;
	int (*show)(struct seq_file *m, void *unused);
	int (*store)(char *line);
};

static struct dentry *harness_directory;

static notrace int harness_open(struct inode *inode, struct file *file)
{
	const struct harness_file *known = inode->i_private;

	if (known->show)
		return single_open(file, known->show, NULL);
	return 0;
}

static notrace int harness_release(struct inode *inode, struct file *file)
{
	const struct harness_file *known = inode->i_private;

	return known->show ? single_release(inode, file) : 0;
}

static notrace ssize_t harness_read(struct file *file, char __user *to, size_t size, loff_t *pos)
{
	const struct harness_file *known = file_inode(file)->i_private;

	return known->show ? seq_read(file, to, size, pos) : -EINVAL;
}

static notrace ssize_t harness_write(struct file *file, const char __user *from, size_t size, loff_t *pos)
{
	const struct harness_file *known = file_inode(file)->i_private;
	char *line;
	int ret;

	if (!known->store)
		return -EINVAL;
	line = memdup_user_nul(from, min_t(size_t, size, PAGE_SIZE));
	if (IS_ERR(line))
		return PTR_ERR(line);
	ret = known->store(strim(line));
	kfree(line);
	return ret < 0 ? ret : size;
}

static const struct file_operations harness_fops = {
	.owner = THIS_MODULE,
	.open = harness_open,
	.read = harness_read,
	.write = harness_write,
	.llseek = noop_llseek,
	.release = harness_release,
};

/* Make /sys/kernel/debug/harness-MODULE/ with these files; the array ends with an entry without a name. */
static notrace int __maybe_unused harness_files(const struct harness_file *files)
{
	harness_directory = debugfs_create_dir("harness-" KBUILD_MODNAME, NULL);
	if (IS_ERR(harness_directory))
		return PTR_ERR(harness_directory);
	for (; files->name; files++)
		debugfs_create_file(files->name, 0600, harness_directory, (void *)files, &harness_fops);
	return 0;
}

static notrace void __maybe_unused harness_files_remove(void)
{
	debugfs_remove_recursive(harness_directory);
}

/* The address of a symbol, "name" or "module:name", exported or not; 0 where there is none. */
static notrace unsigned long __maybe_unused harness_lookup(const char *name)
{
	static unsigned long (*lookup)(const char *name);
	struct kprobe probe = { .symbol_name = "kallsyms_lookup_name" };

	if (!lookup) {
		if (register_kprobe(&probe)) {
			harness_lacks("a kprobe on kallsyms_lookup_name()");
			return 0;
		}
		lookup = (void *)probe.addr;
		unregister_kprobe(&probe);
	}
	return lookup(name);
}

#endif

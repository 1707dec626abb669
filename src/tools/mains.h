// SPDX-License-Identifier: GPL-2.0-or-later
// The programs in the one binary. Each takes arguments as if it were the program of its name:
// argv[0] is what it calls itself in messages. The result is the exit status.
#pragma once

namespace stablefs {

int crashtest_main(int argc, char** argv);
int damage_main(int argc, char** argv);
int dump_main(int argc, char** argv);
int fsck_main(int argc, char** argv);
int info_main(int argc, char** argv);
int mkfs_main(int argc, char** argv);
int mount_main(int argc, char** argv);
int stats_main(int argc, char** argv);
int tags_main(int argc, char** argv);
int abort_main(int argc, char** argv);
int trim_main(int argc, char** argv);
int tune_main(int argc, char** argv);
int umount_main(int argc, char** argv);

}  // namespace stablefs

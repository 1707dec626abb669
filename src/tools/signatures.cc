// SPDX-License-Identifier: GPL-2.0-or-later
#include "tools/signatures.h"

#include <blkid/blkid.h>
#include <errno.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstring>
#include <memory>

namespace stablefs {
namespace {

struct FreeProbe {
  void operator()(blkid_probe probe) const { blkid_free_probe(probe); }
};
using Probe = std::unique_ptr<std::remove_pointer_t<blkid_probe>, FreeProbe>;

Result<Probe> make_probe(int descriptor) {
  Probe probe(blkid_new_probe());
  if (!probe || blkid_probe_set_device(probe.get(), descriptor, 0, 0) != 0) {
    return Error(ErrorCode::source_invalid, "cannot be probed");
  }
  blkid_probe_enable_superblocks(probe.get(), 1);
  blkid_probe_set_superblocks_flags(probe.get(), BLKID_SUBLKS_TYPE | BLKID_SUBLKS_USAGE |
                                                     BLKID_SUBLKS_MAGIC | BLKID_SUBLKS_BADCSUM);
  blkid_probe_enable_partitions(probe.get(), 1);
  blkid_probe_set_partitions_flags(probe.get(), BLKID_PARTS_MAGIC | BLKID_PARTS_FORCE_GPT);
  return probe;
}

const char* value_of(const Probe& probe, const char* name) {
  const char* value = nullptr;
  return blkid_probe_lookup_value(probe.get(), name, &value, nullptr) == 0 ? value : nullptr;
}

}  // namespace

Result<std::optional<std::string>> find_signature(int descriptor) {
  const Probe probe = FS_TRY(make_probe(descriptor));
  // One at a time: a full probe calls two signatures ambivalent and names neither.
  switch (blkid_do_probe(probe.get())) {
    case 0:
      if (const char* type = value_of(probe, "TYPE")) {
        const char* usage = value_of(probe, "USAGE");
        const bool filesystem = usage != nullptr && std::strcmp(usage, "filesystem") == 0;
        return std::optional(fmt::format("{} {}", type, filesystem ? "filesystem" : "signature"));
      }
      if (const char* type = value_of(probe, "PTTYPE")) {
        return std::optional(fmt::format("{} partition table", type));
      }
      return std::optional<std::string>("unknown signature");
    case 1:
      return std::optional<std::string>();
    default:
      return Error(ErrorCode::source_invalid, "cannot be probed");
  }
}

Status wipe_signatures(int descriptor) {
  const Probe probe = FS_TRY(make_probe(descriptor));
  // Each wipe rewinds the probe; the bound is only against a source that will not be wiped.
  for (int found = 0; found < 64; ++found) {
    if (blkid_do_probe(probe.get()) != 0) break;
    if (blkid_do_wipe(probe.get(), 0) != 0) {
      return Error(ErrorCode::device_write, "an old signature cannot be removed");
    }
  }
  if (::fsync(descriptor) != 0) return Error(ErrorCode::device_flush, std::strerror(errno));
  return {};
}

}  // namespace stablefs

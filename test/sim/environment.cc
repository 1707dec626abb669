// SPDX-License-Identifier: GPL-2.0-or-later
#include "sim/environment.h"

#include <sys/stat.h>

#include "base/assert.h"
#include "device/memory_device.h"
#include "fs/file_system.h"
#include "sim/observe.h"

namespace stablefs::sim {
namespace {

constexpr uint64_t kDeviceBlocks = 4096;
constexpr uint64_t kTightBlocks = 90;  // available to data
constexpr uint64_t kChunkBlocks = 16;
constexpr uint64_t kMeasureSlack = 4;

std::unique_ptr<FileSystem> mount(BlockDevice& device, Clock& clock, Logger& logger) {
  FileSystemOptions options;
  options.clock = &clock;
  options.logger = &logger;
  options.writeback_delay_ns = options.commit_interval_ns = 3600 * kNsPerSecond;
  auto opened = FileSystem::open(device, options);
  FS_ASSERT(opened.ok());
  return std::move(opened).value();
}

// Zeros for all but this many blocks.
void fill(FileSystem& fs, uint64_t left_blocks) {
  const NewFile file{S_IFREG | 0600, 0, 0, 0, 0};
  const auto made = fs.make_node(kRootIno, kFillerName, file);
  FS_ASSERT(made.ok());
  uint64_t offset = 0;
  while (fs.statistics().available_blocks > left_blocks + kChunkBlocks + kMeasureSlack) {
    const BufferSlice zeros(kChunkBlocks * kBlockSize);
    FS_ASSERT(fs.write(made->ino, 0, offset, zeros).ok());
    offset += zeros.size();
  }
  fs.forget(made->ino, 1);
}

MemoryImage make_image(bool tight) {
  ManualClock clock;  // the same image every time
  NullLogger logger;
  MemoryDevice device(kDeviceBlocks);
  FormatOptions format;
  format.uuid = {1};
  format.epoch = {2};
  FS_ASSERT(format_device(device, format).ok());
  auto fs = mount(device, clock, logger);
  for (const char* name : {"a", "b"}) {
    const auto made = fs->make_directory(kRootIno, name, {0755, 0, 0, 0, 0});
    FS_ASSERT(made.ok());
    fs->forget(made->ino, 1);
  }
  fill(*fs, tight ? kTightBlocks : kDeviceBlocks);
  FS_ASSERT(fs->close().ok());
  fs.reset();
  // Blocks of zeros need not be kept: images stay small.
  MemoryImage image = device.image();
  std::vector<Lba> zeros;
  image.for_each_populated({Lba(0), image.block_count()}, [&](Lba lba) {
    if (*image.page(lba) == MemoryImage::Page{}) zeros.push_back(lba);
  });
  for (const Lba lba : zeros) image.set_page(lba, nullptr);
  return image;
}

}  // namespace

Environment::Environment() : roomy_(make_image(false)), tight_(make_image(true)) {}

}  // namespace stablefs::sim

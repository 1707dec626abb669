// SPDX-License-Identifier: GPL-2.0-or-later
#include "data/block_reader.h"

#include <fmt/format.h>

#include <cstring>

namespace stablefs {
namespace {

ErrorCode code_of(MismatchKind kind) {
  switch (kind) {
    case MismatchKind::guard:
      return ErrorCode::guard_mismatch;
    case MismatchKind::app_tag:
      return ErrorCode::app_tag_mismatch;
    case MismatchKind::reference_tag:
      return ErrorCode::reference_tag_mismatch;
  }
  return ErrorCode::guard_mismatch;
}

std::span<std::byte> part_of(std::span<std::byte> memory, const Run& whole, const Run& part) {
  return memory.subspan((part.first_block - whole.first_block) * kBlockSize,
                        part.length_blocks * kBlockSize);
}

}  // namespace

Status BlockReader::finish() {
  read_all();
  for (Read& read : reads_) {
    if (!read.status.ok()) return read.status;
    if (!verify(read.run, read.memory)) continue;
    context_.count().guard_mismatches.fetch_add(1, std::memory_order_relaxed);
    FS_TRY(read_again(read));
  }
  reads_.clear();
  return {};
}

void BlockReader::read_all() {
  if (reads_.size() == 1) {
    Read& read = reads_.front();
    read.status = context_.device().read(read.run.lba, read.memory);
    return;
  }
  struct Arrivals {
    Mutex mutex{LockRank::leaf, "parallel read"};
    CondVar all;
    size_t left FS_GUARDED_BY(mutex) = 0;
  } arrivals;
  {
    MutexLock lock(arrivals.mutex);
    arrivals.left = reads_.size();
  }
  for (Read& read : reads_) {
    read.part = {read.memory.data(), read.memory.size()};
    read.request.op = DeviceOp::read;
    read.request.lba = read.run.lba;
    read.request.length_blocks = read.run.length_blocks;
    read.request.memory = {&read.part, 1};
    read.request.complete = [&read, &arrivals](Status status, uint64_t blocks_done) {
      if (status.ok() && blocks_done < read.run.length_blocks) status = ErrorCode::device_short;
      read.status = std::move(status);
      MutexLock lock(arrivals.mutex);
      if (--arrivals.left == 0) arrivals.all.notify_one();
    };
    context_.device().submit(read.request);
  }
  MutexLock lock(arrivals.mutex);
  while (arrivals.left != 0) arrivals.all.wait(arrivals.mutex);
}

std::optional<Mismatch> BlockReader::verify(const Run& run, std::span<const std::byte> memory) {
  if (!context_.options().guard) return std::nullopt;
  context_.count().guard_verified.fetch_add(run.length_blocks, std::memory_order_relaxed);
  return verify_tuples(memory, run.lba, context_.store().interval(), run.tuples);
}

// The mapping may have been replaced, or the device may have erred once.
Status BlockReader::read_again(const Read& read) {
  for (const Run& run : FS_TRY(extents_.lookup(read.run.first_block, read.run.end_block()))) {
    const std::span<std::byte> memory = part_of(read.memory, read.run, run);
    if (run.kind != RunKind::written) {
      std::memset(memory.data(), 0, memory.size());
      continue;
    }
    FS_TRY(context_.device().read(run.lba, memory));
    if (const auto mismatch = verify(run, memory)) return report(run, *mismatch);
  }
  return {};
}

Error BlockReader::report(const Run& run, const Mismatch& mismatch) {
  const uint64_t offset_bytes = run.first_block * kBlockSize + mismatch.offset_bytes;
  Error error(code_of(mismatch.kind),
              fmt::format("inode {} offset {} block {}: {} expected {:#x}, found {:#x}", ino_.value,
                          offset_bytes, mismatch.lba.value, to_string(mismatch.kind),
                          mismatch.expected, mismatch.found));
  context_.options().logger->write(LogLevel::error, error.message());
  return error;
}

}  // namespace stablefs

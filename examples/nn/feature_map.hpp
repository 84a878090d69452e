#ifndef DIFFUSION_EXAMPLES_NN_FEATURE_MAP_HPP
#define DIFFUSION_EXAMPLES_NN_FEATURE_MAP_HPP

#include "attention_hook.hpp"

#include <Eigen/Core>

#include <algorithm>
#include <vector>

namespace nn {

using Eigen::Index;

/// A stack of pictures, [channels, height, width] in C order. A view: the memory is an Arena's.
template <class Scalar>
struct FeatureMap {
  Scalar* data = nullptr;
  Index channels = 0, height = 0, width = 0;

  Index pixels() const { return height * width; }
  Index size() const { return channels * pixels(); }
  Scalar* channel(Index c) const { return data + c * pixels(); }
};

/// Scratch memory that is handed out in order and taken back all at once, and that keeps what it
/// has for the next round: after the first call of a network nothing is allocated any more.
template <class Scalar>
class Arena {
 public:
  /// Numbers behind the end of every piece that may be read, though they mean nothing: the matrix
  /// kernel reads whole packets.
  static constexpr Index slack = 64;

  /// `count` numbers of any value, on a cache line of their own.
  Scalar* take(Index count) {
    const Index needed = round_up(count + slack);
    while (block_ < blocks_.size() && used_ + needed > size_of(block_)) {
      ++block_;
      used_ = 0;
    }
    if (block_ == blocks_.size()) blocks_.emplace_back(std::max(needed, smallest_block));
    Scalar* piece = blocks_[block_].data() + used_;
    used_ += needed;
    return piece;
  }

  FeatureMap<Scalar> map(Index channels, Index height, Index width) {
    return {take(channels * height * width), channels, height, width};
  }

  /// Takes back everything; what came in several blocks will come in one from now on.
  void clear() {
    if (blocks_.size() > 1) {
      Index total = 0;
      for (std::size_t i = 0; i < blocks_.size(); ++i) total += size_of(i);
      blocks_.clear();
      blocks_.emplace_back(total);
    }
    block_ = 0;
    used_ = 0;
  }

  /// Takes back, at the end of a C++ scope, what was handed out in it.
  class Scope {
   public:
    explicit Scope(Arena& arena) : arena_(arena), block_(arena.block_), used_(arena.used_) {}
    ~Scope() {
      arena_.block_ = block_;
      arena_.used_ = used_;
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Arena& arena_;
    std::size_t block_;
    Index used_;
  };

 private:
  // Zeroed when allocated: what the kernel reads behind the end is always a number.
  using Block = std::vector<Scalar, Eigen::aligned_allocator<Scalar>>;
  static constexpr Index smallest_block = 1 << 16;

  static Index round_up(Index count) { return (count + 15) / 16 * 16; }
  Index size_of(std::size_t block) const { return static_cast<Index>(blocks_[block].size()); }

  std::vector<Block> blocks_;
  std::size_t block_ = 0;
  Index used_ = 0;
};

/// The memory of one thread. Features on the way down live in `kept` until the way up has read
/// them; on the way up each block writes into the one of `turn` that its input is not in.
template <class Scalar>
struct Workspace {
  Arena<Scalar> kept, turn[2], scratch;
  AttentionProbe<Scalar> probe;

  void clear() {
    for (auto* arena : {&kept, &turn[0], &turn[1], &scratch}) arena->clear();
  }
};

}  // namespace nn

#endif

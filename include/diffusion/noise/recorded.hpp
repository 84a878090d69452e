#ifndef DIFFUSION_NOISE_RECORDED_HPP
#define DIFFUSION_NOISE_RECORDED_HPP

#include <diffusion/error.hpp>

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace diffusion {

/// Noise that was written down: hands out a list of tensors in order. For tests, for replaying
/// another program's run, for noise of the user's own making. A sequential source. Not thread-safe:
/// it has a position; one per run.
class RecordedNoise {
 public:
  explicit RecordedNoise(std::vector<std::vector<double>> tensors) : tensors_(std::move(tensors)) {}

  /// The next tensor, rounded to float.
  void fill(std::span<float> out) { copy_next(out); }

  /// The next tensor.
  void fill(std::span<double> out) { copy_next(out); }

  /// How many tensors are left.
  std::size_t remaining() const { return tensors_.size() - next_; }

  /// Fails unless the next `tensors` tensors are there and have `elements` numbers each.
  void require(std::size_t tensors, std::size_t elements) const {
    if (tensors > remaining())
      fail(detail::text("the run takes ", tensors, " noise tensors, but only ", remaining(), " of ",
                        tensors_.size(), " recorded ones are left"));
    for (std::size_t i = next_; i < next_ + tensors; ++i) require_size(i, elements);
  }

  /// Begins again with the first tensor.
  void rewind() { next_ = 0; }

 private:
  template <class Scalar>
  void copy_next(std::span<Scalar> out) {
    require(1, out.size());
    std::transform(tensors_[next_].begin(), tensors_[next_].end(), out.begin(),
                   [](double x) { return static_cast<Scalar>(x); });
    ++next_;
  }

  void require_size(std::size_t index, std::size_t elements) const {
    const std::size_t size = tensors_[index].size();
    if (size == elements) return;
    fail(detail::text("recorded noise tensor ", index, " holds ", size, " numbers; the run takes ",
                      elements));
  }

  std::vector<std::vector<double>> tensors_;
  std::size_t next_ = 0;
};

}  // namespace diffusion

#endif  // DIFFUSION_NOISE_RECORDED_HPP

#ifndef DIFFUSION_EXAMPLES_NN_TIME_EMBEDDING_HPP
#define DIFFUSION_EXAMPLES_NN_TIME_EMBEDDING_HPP

#include "layers.hpp"

#include <Eigen/Core>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace nn {

/// Timesteps as vectors: sinusoids (Vaswani et al. 2017), random Fourier features of log t (Song et
/// al. 2021), or a learned table.
///
/// The reference makes sinusoids in float32 whatever the network's type: at t = 999 the phases
/// carry rounding errors of 3e-5, far more than anything after them adds. They are part of what the
/// network was trained with and of what the reference prints, so they are made in float32 here too,
/// operation by operation, also when Scalar is double. The elementary functions are evaluated in
/// double and rounded, which is float32's nearest value.
template <class Scalar>
class TimeProjection {
 public:
  TimeProjection(Parameters<Scalar>& parameters, const std::string& name,
                 const Unet2dConfig& config)
      : kind_(config.time_embedding_type),
        width_(config.block_out_channels[0]),
        entries_(config.num_train_timesteps),
        cosine_first_(config.flip_sin_to_cos) {
    if (kind_ == TimeEmbedding::positional)
      make_frequencies(config.freq_shift);
    else if (kind_ == TimeEmbedding::fourier)
      table_ = parameters.take(name + ".weight", {width_});
    else
      table_ = parameters.take(name + ".weight", {entries_, width_});
  }

  Index out() const { return kind_ == TimeEmbedding::fourier ? 2 * width_ : width_; }

  /// @throws std::runtime_error if t has no entry in a learned table
  void check(double t) const {
    if (!std::isfinite(t)) detail::fail("timestep is " + std::to_string(t) + ", must be finite");
    if (kind_ == TimeEmbedding::learned &&
        (t < 0.0 || t >= static_cast<double>(entries_) || t != std::floor(t)))
      detail::fail("timestep is " + std::to_string(t) + ", must be an integer from 0 to " +
                   std::to_string(entries_ - 1));
  }

  void operator()(double t, Scalar* embedding) const {
    switch (kind_) {
      case TimeEmbedding::positional:
        return sinusoids(static_cast<float>(t), embedding);
      case TimeEmbedding::fourier:
        return fourier(static_cast<float>(t), embedding);
      case TimeEmbedding::learned:
        std::copy_n(table_.data() + static_cast<Index>(t) * width_, width_, embedding);
        return;
    }
  }

 private:
  void make_frequencies(double shift) {
    const Index half = width_ / 2;
    const auto minus_log_period = static_cast<float>(-std::log(10000.0));
    const auto divisor = static_cast<float>(static_cast<double>(half) - shift);
    for (Index i = 0; i < half; ++i) {
      const float exponent = minus_log_period * static_cast<float>(i) / divisor;
      frequencies_.push_back(static_cast<float>(std::exp(static_cast<double>(exponent))));
    }
  }

  void sinusoids(float t, Scalar* embedding) const {
    const auto half = static_cast<Index>(frequencies_.size());
    embedding[width_ - 1] = Scalar(0);  // the place that an odd width leaves over
    for (Index i = 0; i < half; ++i) {
      const auto phase = static_cast<double>(t * frequencies_[static_cast<std::size_t>(i)]);
      embedding[cosine_first_ ? half + i : i] =
          static_cast<Scalar>(static_cast<float>(std::sin(phase)));
      embedding[cosine_first_ ? i : half + i] =
          static_cast<Scalar>(static_cast<float>(std::cos(phase)));
    }
  }

  void fourier(float t, Scalar* embedding) const {
    const auto log_t = static_cast<float>(std::log(static_cast<double>(t)));
    for (Index i = 0; i < width_; ++i) {
      const Scalar product = static_cast<Scalar>(log_t) * table_[static_cast<std::size_t>(i)];
      const Scalar phase = product * Scalar(2) * std::numbers::pi_v<Scalar>;
      embedding[i] = static_cast<Scalar>(std::sin(static_cast<double>(phase)));
      embedding[width_ + i] = static_cast<Scalar>(std::cos(static_cast<double>(phase)));
    }
  }

  TimeEmbedding kind_;
  Index width_, entries_;
  bool cosine_first_;
  std::vector<float> frequencies_;
  std::vector<Scalar> table_;
};

/// linear, SiLU, linear: what makes an embedding out of a projected timestep.
template <class Scalar>
class EmbeddingMlp {
 public:
  EmbeddingMlp(Parameters<Scalar>& parameters, const std::string& name, Index in, Index out)
      : first_(parameters, name + ".linear_1", in, out),
        second_(parameters, name + ".linear_2", out, out) {}

  void operator()(Arena<Scalar>& scratch, const Scalar* x, Scalar* y) const {
    const typename Arena<Scalar>::Scope scope(scratch);
    Scalar* hidden = scratch.take(first_.out());
    first_(x, hidden);
    affine_activation<Scalar>(Activation::silu, hidden, first_.out(), 1, 0, hidden);
    second_(hidden, y);
  }

 private:
  Linear<Scalar> first_, second_;
};

/// What a sample is conditioned on beside its timestep: a class label, or a vector of the time
/// embedding's width (networks with class_embed_type "identity", or in place of a class of the
/// table). Or nothing.
template <class Scalar>
struct Condition {
  std::optional<int> label;
  const Scalar* vector = nullptr;
};

/// The vector that every resnet block sees: the timestep's embedding plus the class's.
template <class Scalar>
class ConditionEmbedding {
 public:
  ConditionEmbedding(Parameters<Scalar>& parameters, const Unet2dConfig& config)
      : width_(config.time_embedding_dim),
        classes_(config.num_class_embeds),
        kind_(config.class_embedding),
        projection_(parameters, "time_proj", config),
        time_(parameters, "time_embedding", projection_.out(), width_) {
    if (kind_ == ClassEmbedding::table)
      class_table_ = parameters.take("class_embedding.weight", {classes_, width_});
    if (kind_ == ClassEmbedding::timestep)
      class_mlp_.emplace(parameters, "class_embedding", projection_.out(), width_);
  }

  Index width() const { return width_; }

  void check_time(double t) const { projection_.check(t); }

  void check_label(int label) const {
    if (kind_ == ClassEmbedding::table && (label < 0 || label >= classes_))
      detail::fail("class label is " + std::to_string(label) + ", must be from 0 to " +
                   std::to_string(classes_ - 1));
    if (kind_ == ClassEmbedding::timestep) projection_.check(label);
  }

  /// The row of a class in the table; none where the network has no table.
  std::span<const Scalar> class_row(int label) const {
    if (kind_ != ClassEmbedding::table) return {};
    check_label(label);
    return std::span<const Scalar>(class_table_)
        .subspan(static_cast<std::size_t>(label * width_), static_cast<std::size_t>(width_));
  }

  void operator()(Arena<Scalar>& scratch, double t, const Condition<Scalar>& condition,
                  Scalar* embedding) const {
    const typename Arena<Scalar>::Scope scope(scratch);
    Scalar* projected = scratch.take(projection_.out());
    projection_(t, projected);
    time_(scratch, projected, embedding);

    const Scalar* summand = condition.vector;
    if (kind_ == ClassEmbedding::table && summand == nullptr) {
      summand = class_table_.data() + condition.label.value() * width_;
    } else if (kind_ == ClassEmbedding::timestep) {
      projection_(condition.label.value(), projected);
      Scalar* class_embedding = scratch.take(width_);
      (*class_mlp_)(scratch, projected, class_embedding);
      summand = class_embedding;
    }
    if (summand != nullptr)
      ArrayMap<Scalar>(embedding, width_) += ConstArrayMap<Scalar>(summand, width_);
  }

 private:
  Index width_;
  std::int64_t classes_;
  ClassEmbedding kind_;
  TimeProjection<Scalar> projection_;
  EmbeddingMlp<Scalar> time_;
  std::vector<Scalar> class_table_;
  std::optional<EmbeddingMlp<Scalar>> class_mlp_;
};

}  // namespace nn

#endif

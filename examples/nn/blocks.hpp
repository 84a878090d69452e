#ifndef DIFFUSION_EXAMPLES_NN_BLOCKS_HPP
#define DIFFUSION_EXAMPLES_NN_BLOCKS_HPP

#include "layers.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <optional>
#include <string>
#include <vector>

namespace nn {

/// norm, act, (resize,) conv, time, norm, act, conv, plus the input through a 1x1 convolution where
/// the widths differ (He et al. 2016; Ho, Jain and Abbeel 2020, appendix B).
template <class Scalar>
class ResnetBlock {
 public:
  struct Options {
    Index in = 0, out = 0;
    std::optional<Index> groups_in, groups_out;
    double output_scale = 1.0;
    Resize how = Resize::none;
    bool always_shortcut = false;  ///< a 1x1 convolution beside the block though the widths agree
  };

  ResnetBlock(Parameters<Scalar>& parameters, const std::string& name, const Unet2dConfig& config,
              const Options& options)
      : act_(config.act_fn),
        how_(options.how),
        scale_shift_(config.resnet_time_scale_shift == TimeShift::scale_shift),
        output_scale_(static_cast<Scalar>(options.output_scale)),
        norm1_(parameters, name + ".norm1", options.in, options.groups_in, config.norm_eps),
        conv1_(parameters, name + ".conv1", conv3x3(options.in, options.out)),
        time_(parameters, name + ".time_emb_proj", config.time_embedding_dim,
              scale_shift_ ? 2 * options.out : options.out),
        norm2_(parameters, name + ".norm2", options.out, options.groups_out, config.norm_eps),
        conv2_(parameters, name + ".conv2", conv3x3(options.out, options.out)) {
    if (options.in != options.out || options.always_shortcut)
      shortcut_.emplace(parameters, name + ".conv_shortcut", conv1x1(options.in, options.out));
  }

  Index in() const { return conv1_.shape().in; }
  Resize how() const { return how_; }

  /// @param time the time embedding after the activation
  FeatureMap<Scalar> operator()(Arena<Scalar>& result, Arena<Scalar>& scratch,
                                const FeatureMap<Scalar>& x, const Scalar* time) const {
    const auto out =
        result.map(conv2_.shape().out, resized(how_, x.height), resized(how_, x.width));
    const typename Arena<Scalar>::Scope scope(scratch);

    const auto normed = scratch.map(x.channels, x.height, x.width);
    norm1_(x, act_, normed);
    const auto hidden = scratch.map(out.channels, out.height, out.width);
    add_time(scratch, resize(scratch, how_, normed), hidden, time);

    const FeatureMap<Scalar> beside = resize(scratch, how_, x);
    const Scalar* residual = beside.data;
    if (shortcut_) {
      (*shortcut_)(scratch, beside, out);
      residual = out.data;
    }
    conv2_(scratch, hidden, out, nullptr, residual);
    if (output_scale_ != Scalar(1)) ArrayMap<Scalar>(out.data, out.size()) /= output_scale_;
    return out;
  }

 private:
  /// The first convolution, the time embedding and the second norm. An embedding that is added
  /// joins the convolution's bias; scale and shift join the norm's.
  void add_time(Arena<Scalar>& scratch, const FeatureMap<Scalar>& x,
                const FeatureMap<Scalar>& hidden, const Scalar* time) const {
    Scalar* projected = scratch.take(time_.out());
    time_(time, projected);
    if (scale_shift_) {
      conv1_(scratch, x, hidden);
      norm2_(hidden, act_, hidden, projected, projected + hidden.channels);
    } else {
      ArrayMap<Scalar>(projected, hidden.channels) +=
          ConstArrayMap<Scalar>(conv1_.bias().data(), hidden.channels);
      conv1_(scratch, x, hidden, projected);
      norm2_(hidden, act_, hidden);
    }
  }

  Activation act_;
  Resize how_;
  bool scale_shift_;
  Scalar output_scale_;
  GroupNorm<Scalar> norm1_;
  Conv2d<Scalar> conv1_;
  Linear<Scalar> time_;
  GroupNorm<Scalar> norm2_;
  Conv2d<Scalar> conv2_;
  std::optional<Conv2d<Scalar>> shortcut_;
};

namespace detail {

inline bool is_skip(BlockKind kind) {
  return kind == BlockKind::skip || kind == BlockKind::attention_skip;
}

/// The groups that skip blocks choose for themselves.
inline std::optional<Index> skip_groups(Index quarter) { return std::min<Index>(quarter, 32); }

/// What the skip blocks divide their sums by.
inline double output_scale(BlockKind kind) { return is_skip(kind) ? std::numbers::sqrt2 : 1.0; }

template <class Scalar>
Attention<Scalar> block_attention(Parameters<Scalar>& parameters, const std::string& name,
                                  const Unet2dConfig& config, BlockKind kind, Index channels) {
  const auto groups = is_skip(kind) ? std::optional<Index>(32) : config.norm_num_groups;
  if (!groups) fail("config.json: norm_num_groups is null, must be an integer for " + name);
  return {parameters,
          name,
          {.channels = channels,
           .head_dim = config.attention_head_dim.value_or(channels),
           .groups = groups,
           .eps = config.norm_eps,
           .rescale = output_scale(kind)}};
}

/// The resnet block that halves or doubles the size at the end of a level.
template <class Scalar>
ResnetBlock<Scalar> resizing_block(Parameters<Scalar>& parameters, const std::string& name,
                                   const Unet2dConfig& config, BlockKind kind, Index channels,
                                   bool up) {
  const bool skip = is_skip(kind);
  const auto groups = skip ? skip_groups(channels / 4) : config.norm_num_groups;
  const Resize how = up ? (skip ? Resize::fir_up : Resize::nearest_up)
                        : (skip ? Resize::fir_down : Resize::average_down);
  return {parameters,
          name,
          config,
          {.in = channels,
           .out = channels,
           .groups_in = groups,
           .groups_out = groups,
           .output_scale = output_scale(kind),
           .how = how,
           .always_shortcut = skip}};
}

template <class Scalar>
void apply_attention(const std::vector<Attention<Scalar>>& attentions, std::size_t i,
                     Workspace<Scalar>& memory, const FeatureMap<Scalar>& x) {
  if (i < attentions.size()) attentions[i](memory.scratch, x, memory.probe);
}

}  // namespace detail

/// The features kept on the way down for the way up, and the picture beside them.
template <class Scalar>
struct DownState {
  std::vector<FeatureMap<Scalar>> kept;  ///< the last is where the network stands
  FeatureMap<Scalar> picture;
};

/// One level on the way down: resnet blocks, each followed by attention or not, then half the size.
template <class Scalar>
class DownBlock {
 public:
  struct Options {
    BlockKind kind = BlockKind::plain;
    Index in = 0, out = 0;
    bool last = false;  ///< keeps its size
  };

  DownBlock(Parameters<Scalar>& parameters, const std::string& name, const Unet2dConfig& config,
            const Options& options) {
    const BlockKind kind = options.kind;
    const bool skip = detail::is_skip(kind);
    for (Index i = 0; i < config.layers_per_block; ++i) {
      const std::string number = "." + std::to_string(i);
      const Index in = i == 0 ? options.in : options.out;
      resnets_.emplace_back(
          parameters, name + ".resnets" + number, config,
          typename ResnetBlock<Scalar>::Options{
              .in = in,
              .out = options.out,
              .groups_in = skip ? detail::skip_groups(in / 4) : config.norm_num_groups,
              .groups_out = skip ? detail::skip_groups(options.out / 4) : config.norm_num_groups,
              .output_scale = detail::output_scale(kind)});
      if (kind == BlockKind::attention || kind == BlockKind::attention_skip)
        attentions_.push_back(detail::block_attention(parameters, name + ".attentions" + number,
                                                      config, kind, options.out));
    }
    if (!options.last) make_smaller(parameters, name, config, options);
  }

  /// The size of the block's last features, for an input of `extent` pixels.
  Index smaller(Index extent) const {
    if (smaller_conv_) return smaller_conv_->shape().extent(extent);
    return smaller_resnet_ ? resized(smaller_resnet_->how(), extent) : extent;
  }

  bool shrinks() const { return smaller_conv_ || smaller_resnet_; }
  bool shrinks_picture() const { return picture_in_.has_value(); }

  void operator()(Workspace<Scalar>& memory, DownState<Scalar>& state, const Scalar* time) const {
    for (std::size_t i = 0; i < resnets_.size(); ++i) {
      state.kept.push_back(resnets_[i](memory.kept, memory.scratch, state.kept.back(), time));
      detail::apply_attention(attentions_, i, memory, state.kept.back());
    }
    if (!shrinks()) return;
    const FeatureMap<Scalar> x = state.kept.back();
    if (smaller_conv_) {
      state.kept.push_back(smaller_conv_->result(memory.kept, x));
      (*smaller_conv_)(memory.scratch, x, state.kept.back());
    } else {
      state.kept.push_back((*smaller_resnet_)(memory.kept, memory.scratch, x, time));
    }
    if (picture_in_) {
      const FeatureMap<Scalar> features = state.kept.back();
      state.picture = resize(memory.kept, Resize::fir_down, state.picture);
      (*picture_in_)(memory.scratch, state.picture, features, nullptr, features.data);
    }
  }

 private:
  void make_smaller(Parameters<Scalar>& parameters, const std::string& name,
                    const Unet2dConfig& config, const Options& options) {
    const BlockKind kind = options.kind;
    if (detail::is_skip(kind)) {
      smaller_resnet_ = detail::resizing_block(parameters, name + ".resnet_down", config, kind,
                                               options.out, false);
      picture_in_.emplace(parameters, name + ".skip_conv", conv1x1(3, options.out));
    } else if (kind == BlockKind::resnet ||
               (kind == BlockKind::attention && config.downsample_type == Resampling::resnet)) {
      smaller_resnet_ = detail::resizing_block(parameters, name + ".downsamplers.0", config, kind,
                                               options.out, false);
    } else {
      // A padding of 0 means zeros below and right alone.
      const Index pad = config.downsample_padding;
      const ConvShape half{.in = options.out,
                           .out = options.out,
                           .stride = 2,
                           .pad_before = pad,
                           .pad_after = pad == 0 ? 1 : pad};
      smaller_conv_.emplace(parameters, name + ".downsamplers.0.conv", half);
    }
  }

  std::vector<ResnetBlock<Scalar>> resnets_;
  std::vector<Attention<Scalar>> attentions_;
  std::optional<Conv2d<Scalar>> smaller_conv_;
  std::optional<ResnetBlock<Scalar>> smaller_resnet_;
  std::optional<Conv2d<Scalar>> picture_in_;
};

/// The features on the way up, in memory.turn[turn], and the picture beside them: null until the
/// first skip block makes one.
template <class Scalar>
struct UpState {
  FeatureMap<Scalar> features;
  std::size_t turn = 0;
  FeatureMap<Scalar> picture;
};

/// The middle: a resnet block, attention or not, a resnet block.
template <class Scalar>
class MidBlock {
 public:
  MidBlock(Parameters<Scalar>& parameters, const std::string& name, const Unet2dConfig& config) {
    const Index channels = config.block_out_channels.back();
    const double scale = config.mid_block_scale_factor;
    const auto groups =
        config.norm_num_groups ? config.norm_num_groups : detail::skip_groups(channels / 4);
    for (const char* number : {".0", ".1"})
      resnets_.emplace_back(parameters, name + ".resnets" + number, config,
                            typename ResnetBlock<Scalar>::Options{.in = channels,
                                                                  .out = channels,
                                                                  .groups_in = groups,
                                                                  .groups_out = groups,
                                                                  .output_scale = scale});
    if (!config.add_attention) return;
    auto attention_groups = config.attn_norm_num_groups;
    if (!attention_groups && config.resnet_time_scale_shift == TimeShift::add)
      attention_groups = groups;
    attentions_.emplace_back(parameters, name + ".attentions.0",
                             typename Attention<Scalar>::Options{
                                 .channels = channels,
                                 .head_dim = config.attention_head_dim.value_or(channels),
                                 .groups = attention_groups,
                                 .eps = config.norm_eps,
                                 .rescale = scale});
  }

  void operator()(Workspace<Scalar>& memory, UpState<Scalar>& state, const Scalar* time) const {
    const auto x = resnets_[0](memory.turn[0], memory.scratch, state.features, time);
    detail::apply_attention(attentions_, 0, memory, x);
    state.features = resnets_[1](memory.turn[1], memory.scratch, x, time);
    state.turn = 1;
  }

 private:
  std::vector<ResnetBlock<Scalar>> resnets_;
  std::vector<Attention<Scalar>> attentions_;  // none or one
};

/// One level on the way up: resnet blocks on the features joined with kept ones, each followed by
/// attention or not, then twice the size.
template <class Scalar>
class UpBlock {
 public:
  struct Options {
    BlockKind kind = BlockKind::plain;
    Index previous = 0;  ///< the width of the level below
    Index out = 0;
    Index next = 0;     ///< the width that the last kept features of the level have
    bool last = false;  ///< keeps its size
  };

  UpBlock(Parameters<Scalar>& parameters, const std::string& name, const Unet2dConfig& config,
          const Options& options)
      : skip_(detail::is_skip(options.kind)) {
    const BlockKind kind = options.kind;
    const Index layers = config.layers_per_block + 1;
    for (Index i = 0; i < layers; ++i) {
      const std::string number = "." + std::to_string(i);
      const Index below = i == 0 ? options.previous : options.out;
      const Index kept = i == layers - 1 ? options.next : options.out;
      resnets_.emplace_back(
          parameters, name + ".resnets" + number, config,
          typename ResnetBlock<Scalar>::Options{
              .in = below + kept,
              .out = options.out,
              .groups_in = skip_ ? joined_groups(kind, below, kept) : config.norm_num_groups,
              .groups_out = skip_ ? detail::skip_groups(options.out / 4) : config.norm_num_groups,
              .output_scale = detail::output_scale(kind)});
      const bool attends =
          kind == BlockKind::attention || (kind == BlockKind::attention_skip && i == 0);
      if (attends)
        attentions_.push_back(detail::block_attention(parameters, name + ".attentions" + number,
                                                      config, kind, options.out));
    }
    if (!options.last) make_larger(parameters, name, config, options);
  }

  std::size_t layers() const { return resnets_.size(); }
  bool grows() const { return larger_conv_ || larger_resnet_; }
  bool is_skip() const { return skip_; }

  void operator()(Workspace<Scalar>& memory, std::vector<FeatureMap<Scalar>>& kept,
                  UpState<Scalar>& state, const Scalar* time) const {
    for (std::size_t i = 0; i < resnets_.size(); ++i) {
      const typename Arena<Scalar>::Scope scope(memory.scratch);
      const auto joined = join(memory.scratch, state.features, kept.back());
      kept.pop_back();
      state.features = resnets_[i](next(memory, state), memory.scratch, joined, time);
      if (!skip_) detail::apply_attention(attentions_, i, memory, state.features);
    }
    if (skip_) {
      detail::apply_attention(attentions_, 0, memory, state.features);
      add_picture(memory, state);
    }
    if (!grows()) return;
    const FeatureMap<Scalar> x = state.features;
    Arena<Scalar>& result = next(memory, state);
    if (larger_conv_) {
      state.features = larger_conv_->result(result, x);
      (*larger_conv_)(memory.scratch, x, state.features);
    } else {
      state.features = (*larger_resnet_)(result, memory.scratch, x, time);
    }
  }

 private:
  /// AttnSkipUpBlock2D of diffusers counts its groups as written here, a quarter of one term alone.
  static std::optional<Index> joined_groups(BlockKind kind, Index below, Index kept) {
    return detail::skip_groups(kind == BlockKind::attention_skip ? below + kept / 4
                                                                 : (below + kept) / 4);
  }

  void make_larger(Parameters<Scalar>& parameters, const std::string& name,
                   const Unet2dConfig& config, const Options& options) {
    const BlockKind kind = options.kind;
    if (skip_) {
      larger_resnet_ =
          detail::resizing_block(parameters, name + ".resnet_up", config, kind, options.out, true);
      picture_norm_.emplace(parameters, name + ".skip_norm", options.out,
                            detail::skip_groups(options.out / 4), config.norm_eps);
      picture_out_.emplace(parameters, name + ".skip_conv", conv3x3(options.out, 3));
    } else if (kind == BlockKind::resnet ||
               (kind == BlockKind::attention && config.upsample_type == Resampling::resnet)) {
      larger_resnet_ = detail::resizing_block(parameters, name + ".upsamplers.0", config, kind,
                                              options.out, true);
    } else {
      ConvShape twice = conv3x3(options.out, options.out);
      twice.enlarge = 2;
      larger_conv_.emplace(parameters, name + ".upsamplers.0.conv", twice);
    }
  }

  static Arena<Scalar>& next(Workspace<Scalar>& memory, UpState<Scalar>& state) {
    state.turn = 1 - state.turn;
    memory.turn[state.turn].clear();
    return memory.turn[state.turn];
  }

  static FeatureMap<Scalar> join(Arena<Scalar>& scratch, const FeatureMap<Scalar>& a,
                                 const FeatureMap<Scalar>& b) {
    const auto joined = scratch.map(a.channels + b.channels, a.height, a.width);
    std::copy_n(a.data, a.size(), joined.data);
    std::copy_n(b.data, b.size(), joined.data + a.size());
    return joined;
  }

  /// The picture, twice as large, plus what the features say. It lives in `kept`, like everything
  /// that is read at the end.
  void add_picture(Workspace<Scalar>& memory, UpState<Scalar>& state) const {
    if (state.picture.data != nullptr)
      state.picture = resize(memory.kept, Resize::fir_up, state.picture);
    if (!picture_out_) return;
    const typename Arena<Scalar>::Scope scope(memory.scratch);
    const auto& x = state.features;
    const auto normed = memory.scratch.map(x.channels, x.height, x.width);
    (*picture_norm_)(x, Activation::silu, normed);
    const auto sum = memory.kept.map(3, x.height, x.width);
    (*picture_out_)(memory.scratch, normed, sum, nullptr, state.picture.data);
    state.picture = sum;
  }

  bool skip_;
  std::vector<ResnetBlock<Scalar>> resnets_;
  std::vector<Attention<Scalar>> attentions_;  // one a resnet block, one at the end if skip
  std::optional<Conv2d<Scalar>> larger_conv_;
  std::optional<ResnetBlock<Scalar>> larger_resnet_;
  std::optional<GroupNorm<Scalar>> picture_norm_;
  std::optional<Conv2d<Scalar>> picture_out_;
};

}  // namespace nn

#endif

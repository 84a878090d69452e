"""A UNet2DModel for training on a CPU: bfloat16 convolutions and our own operators between them.

Processors with bfloat16 matrix instructions convolve channels_last pictures several times faster in
bfloat16 than in float32, but then PyTorch's normalisations, activations and sums take most of the
time. norm_silu.cpp holds those operators; it is compiled when first needed. The parameters and the
result stay in float32. Covers the layers of the network of the examples, no others.
"""

import ctypes
import platform
import subprocess
import tempfile
from pathlib import Path

import torch
from torch.nn import functional

NHWC = torch.channels_last


def compile_operators():
    source = Path(__file__).with_name("norm_silu.cpp")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "norm_silu.so"
        wide = ["-mprefer-vector-width=512"] if platform.machine() == "x86_64" else []
        subprocess.run(["g++", "-std=c++17", "-O3", "-march=native", "-ffast-math", *wide,
                        "-fopenmp", "-shared", "-fPIC", str(source), "-o", str(target)], check=True)
        return ctypes.CDLL(str(target))


operators = None


def call(name, *arguments):
    """Calls an operator: tensors and None as pointers, integers in 64 bits, numbers as floats."""
    global operators
    operators = operators or compile_operators()
    converted = []
    for value in arguments:
        if value is None or isinstance(value, torch.Tensor):
            converted.append(ctypes.c_void_p(value if value is None else value.data_ptr()))
        elif isinstance(value, bool):
            converted.append(ctypes.c_int(value))
        else:
            converted.append((ctypes.c_int64 if isinstance(value, int) else ctypes.c_float)(value))
    getattr(operators, name)(*converted)


def half(weight):
    return weight.bfloat16().contiguous(memory_format=NHWC)


def normalise(x, shift, gamma, beta, norm, silu=True):
    b, c, h, w = x.shape
    statistics, y = torch.empty(b, norm[0], 2), torch.empty_like(x)
    call("norm_silu", x, shift, gamma, beta, norm[1], silu, b, h * w, c, norm[0], statistics, y)
    return y, statistics


def normalise_back(x, shift, gamma, beta, statistics, dy, bypass=None, silu=True):
    b, c, h, w = x.shape
    dx, dshift = torch.empty_like(x), None if shift is None else torch.empty(b, c)
    dgamma, dbeta = torch.empty(b, c), torch.empty(b, c)
    call("norm_silu_back", x, shift, gamma, beta, statistics, dy, bypass, silu, b, h * w, c,
         statistics.shape[1], dx, dshift, dgamma, dbeta)
    return dx, dshift, dgamma.sum(0), dbeta.sum(0)


def convolve(x, weight, bias, stride=1, padding=1):
    return functional.conv2d(x, weight, None if bias is None else bias.bfloat16(), stride, padding)


def convolve_back(dy, x, weight, stride=1, padding=1, need_x=True):
    """The derivatives by x and, in float32, by the weight."""
    dx, dweight, _ = torch.ops.aten.convolution_backward(
        dy, x, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1,
        [need_x, True, False])
    return None if dx is None else dx.contiguous(memory_format=NHWC), dweight.float()


def sum_pixels(dy):
    b, c, h, w = dy.shape
    total = torch.empty(c)
    call("sum_pixels", dy, b * h * w, c, total)
    return total


class Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, stride, padding):
        weight = half(weight)
        ctx.save_for_backward(x, weight)
        ctx.geometry = stride, padding
        return convolve(x, weight, bias, stride, padding).contiguous(memory_format=NHWC)

    @staticmethod
    def backward(ctx, dy):
        x, weight = ctx.saved_tensors
        dy = dy.contiguous(memory_format=NHWC)
        dx, dweight = convolve_back(dy, x, weight, *ctx.geometry, ctx.needs_input_grad[0])
        return dx, dweight, sum_pixels(dy), None, None


class NormSilu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, gamma, beta, norm, silu):
        y, statistics = normalise(x, None, gamma, beta, norm, silu)
        ctx.save_for_backward(x, gamma, beta, statistics)
        ctx.silu = silu
        return y

    @staticmethod
    def backward(ctx, dy):
        x, gamma, beta, statistics = ctx.saved_tensors
        dy = dy.contiguous(memory_format=NHWC)
        dx, _, dgamma, dbeta = normalise_back(x, None, gamma, beta, statistics, dy, None, ctx.silu)
        return dx, dgamma, dbeta, None, None


class Residual(torch.autograd.Function):
    """A residual block; shift [b, c] is the time embedding's projection plus conv1's bias."""

    @staticmethod
    def forward(ctx, x, shift, gamma1, beta1, weight1, gamma2, beta2, weight2, bias2, weight, bias,
                norm):
        weight1, weight2 = half(weight1), half(weight2)
        first, statistics1 = normalise(x, None, gamma1, beta1, norm)
        between = convolve(first, weight1, None).contiguous(memory_format=NHWC)
        second, statistics2 = normalise(between, shift, gamma2, beta2, norm)
        y = convolve(second, weight2, bias2).contiguous(memory_format=NHWC)
        if weight is not None:
            weight = half(weight)
        skipped = x if weight is None else convolve(x, weight, bias, 1, 0).contiguous(
            memory_format=NHWC)
        call("add_to", y, skipped, y.numel())
        ctx.save_for_backward(x, shift, gamma1, beta1, weight1, gamma2, beta2, weight2, weight,
                              first, between, second, statistics1, statistics2)
        return y

    @staticmethod
    def backward(ctx, dy):
        (x, shift, gamma1, beta1, weight1, gamma2, beta2, weight2, weight,
         first, between, second, statistics1, statistics2) = ctx.saved_tensors
        dy = dy.contiguous(memory_format=NHWC)
        dbias = sum_pixels(dy)
        dsecond, dweight2 = convolve_back(dy, second, weight2)
        dbetween, dshift, dgamma2, dbeta2 = normalise_back(between, shift, gamma2, beta2,
                                                           statistics2, dsecond)
        dfirst, dweight1 = convolve_back(dbetween, first, weight1)
        bypass, dweight = (dy, None) if weight is None else convolve_back(dy, x, weight, 1, 0)
        dx, _, dgamma1, dbeta1 = normalise_back(x, None, gamma1, beta1, statistics1, dfirst, bypass)
        return (dx, dshift, dgamma1, dbeta1, dweight1, dgamma2, dbeta2, dweight2, dbias, dweight,
                None if weight is None else dbias, None)


class Enlarge(torch.autograd.Function):
    """Every pixel four times."""

    @staticmethod
    def forward(ctx, x):
        b, c, h, w = x.shape
        y = torch.empty(b, c, 2 * h, 2 * w, dtype=x.dtype).contiguous(memory_format=NHWC)
        call("enlarge", x, b * h, w, c, y)
        return y

    @staticmethod
    def backward(ctx, dy):
        b, c, h, w = dy.shape
        dy = dy.contiguous(memory_format=NHWC)
        dx = torch.empty(b, c, h // 2, w // 2, dtype=dy.dtype).contiguous(memory_format=NHWC)
        call("enlarge_back", dy, b * h // 2, w // 2, c, dx)
        return dx


def settings(norm):
    return norm.num_groups, norm.eps


def convolution(layer, x):
    return Convolution.apply(x, layer.weight, layer.bias, layer.stride[0], layer.padding[0])


def residual(block, x, embedding):
    projection = block.time_emb_proj
    shift = functional.linear(embedding, projection.weight, projection.bias) + block.conv1.bias
    skip = block.conv_shortcut
    return Residual.apply(x, shift, block.norm1.weight, block.norm1.bias, block.conv1.weight,
                          block.norm2.weight, block.norm2.bias, block.conv2.weight,
                          block.conv2.bias, skip and skip.weight, skip and skip.bias,
                          settings(block.norm1))


def attention(layer, x):
    b, c, h, w = x.shape
    norm = layer.group_norm
    y = NormSilu.apply(x, norm.weight, norm.bias, settings(norm), False)
    y = y.permute(0, 2, 3, 1).reshape(b * h * w, c)
    parts = (layer.to_q, layer.to_k, layer.to_v)
    weight = torch.cat([part.weight for part in parts]).bfloat16()
    bias = torch.cat([part.bias for part in parts])
    rows = functional.linear(y, weight).float() + bias
    q, k, v = rows.view(b, h * w, 3, layer.heads, -1).permute(2, 0, 3, 1, 4).contiguous()
    y = torch.softmax(q @ k.transpose(-1, -2) * layer.scale, -1) @ v
    y = y.transpose(1, 2).reshape(b * h * w, c)
    out = layer.to_out[0]
    y = functional.linear(y.bfloat16(), out.weight.bfloat16()).float() + out.bias
    return x + y.view(b, h, w, c).bfloat16().permute(0, 3, 1, 2)


def side_by_side(x):
    """The same with the channels of a pixel beside each other, as all operators here take it."""
    return x.contiguous(memory_format=NHWC)


def forward(network, x, t, labels):
    """network(x, t, class_labels=labels): [b, 1, 28, 28] in float32, as the result."""
    embedding = network.time_embedding(network.time_proj(t)) + network.class_embedding(labels)
    embedding = functional.silu(embedding)
    x = convolution(network.conv_in, side_by_side(x.bfloat16()))
    kept = [x]
    for block in network.down_blocks:
        for i, resnet in enumerate(block.resnets):
            x = residual(resnet, x, embedding)
            if hasattr(block, "attentions"):
                x = attention(block.attentions[i], x)
            kept.append(x)
        if block.downsamplers is not None:
            x = convolution(block.downsamplers[0].conv, x)
            kept.append(x)
    middle = network.mid_block
    x = residual(middle.resnets[0], x, embedding)
    for layer, resnet in zip(middle.attentions, middle.resnets[1:]):
        x = residual(resnet, attention(layer, x), embedding)
    for block in network.up_blocks:
        for i, resnet in enumerate(block.resnets):
            joined = side_by_side(torch.cat([x, kept.pop()], 1))
            x = residual(resnet, joined, embedding)
            if hasattr(block, "attentions"):
                x = attention(block.attentions[i], x)
        if block.upsamplers is not None:
            x = convolution(block.upsamplers[0].conv, Enlarge.apply(side_by_side(x)))
    norm = network.conv_norm_out
    x = NormSilu.apply(x, norm.weight, norm.bias, settings(norm), True)
    return convolution(network.conv_out, x).float()

"""Plain float64 forms of the served ops, differentiated by autograd; none shares code with them."""

import math
from itertools import product

import torch
import torch.nn.functional as F


def bilinear(image, y, x, border=True):
    """Values (C, ...) of image (C, H, W) at cells y, x (...), which broadcast.

    With `border`, the rule of mmcv's RoI ops: clamped within one cell around the map, 0 farther
    out. Without, zeros around the map.
    """
    height, width = image.shape[-2:]
    near = torch.ones((), dtype=torch.bool)
    if border:
        near = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
        y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
    rows = (1 - (torch.arange(height) - y[..., None]).abs()).clamp(min=0)
    columns = (1 - (torch.arange(width) - x[..., None]).abs()).clamp(min=0)
    return torch.einsum("chw,...h,...w->c...", image, rows, columns) * near


def roi_align(features, rois, size, scale, ratio, mode="avg", aligned=True, moves=None):
    """`moves` (R, 2, *size) in x and y, as parts of the RoI, make it deformable RoI pooling."""
    least = -math.inf if aligned else 1.0
    pooled = []
    for roi, (image, *corners) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (corner * scale - aligned * 0.5 for corner in corners)
        height, width = max(y2 - y1, least), max(x2 - x1, least)
        step_y, step_x = height / size[0], width / size[1]
        down, across = (torch.arange(ratio or max(math.ceil(step), 0)) for step in (step_y, step_x))
        for i, j in product(*map(range, size)):
            y = y1 + (i + (down.double() + 0.5) / len(down)) * step_y
            x = x1 + (j + (across.double() + 0.5) / len(across)) * step_x
            if moves is not None:
                x, y = x + width * moves[roi, 0, i, j], y + height * moves[roi, 1, i, j]
            samples = bilinear(features[int(image)], y[:, None], x[None]).flatten(1)
            if samples.shape[1] == 0:
                pooled.append(features.new_zeros(len(samples)))
            else:
                pooled.append(samples.mean(1) if mode == "avg" else samples.max(1).values)
    return torch.stack(pooled).view(len(rois), *size, -1).permute(0, 3, 1, 2)


def roi_pool(features, rois, size, scale):
    def bounds(first, last, index, bins, cells):
        begin = first * scale
        step = ((last + 1) * scale - begin) / bins
        ends = math.floor(begin + index * step), math.ceil(begin + (index + 1) * step)
        return (min(max(end, 0), cells) for end in ends)

    pooled = []
    for image, x1, y1, x2, y2 in rois.tolist():
        for i, j in product(*map(range, size)):
            top, bottom = bounds(y1, y2, i, size[0], features.shape[2])
            left, right = bounds(x1, x2, j, size[1], features.shape[3])
            cells = features[int(image), :, top:bottom, left:right].flatten(1)
            has_cells = cells.shape[1] > 0 and x2 + 1 > x1 and y2 + 1 > y1
            pooled.append(cells.max(1).values if has_cells else features.new_zeros(len(cells)))
    return torch.stack(pooled).view(len(rois), *size, -1).permute(0, 3, 1, 2)


def border_align(features, boxes, pool_size):
    parts = torch.linspace(0, 1, pool_size + 1, dtype=torch.float64)
    values = []
    for image, boxes_there in zip(features, boxes.tolist(), strict=True):
        for x1, y1, x2, y2 in boxes_there:
            sides = ((x1, y1, x2, y1), (x1, y1, x1, y2), (x2, y2, x1, y2), (x2, y2, x2, y1))
            for channels, (left, top, right, bottom) in zip(image.chunk(4), sides, strict=True):
                y, x = top + parts * (bottom - top), left + parts * (right - left)
                values.append(bilinear(channels, y, x).max(dim=1).values)
    return torch.stack(values).view(*boxes.shape[:2], 4, -1).permute(0, 3, 1, 2)


def deform_conv(
    input, offset, mask, weight, bias, stride, padding, dilation, groups, offset_groups
):
    kernel, size = weight.shape[2:], offset.shape[2:]
    taps = kernel[0] * kernel[1]
    offset = offset.unflatten(1, (offset_groups, taps, 2))
    mask = torch.ones_like(offset[:, :, :, 0]) if mask is None else mask.view_as(offset[:, :, :, 0])
    rows, columns = (torch.arange(size[i]) * stride[i] - padding[i] for i in (0, 1))
    output = input.new_zeros(()) if bias is None else bias[:, None, None]
    for tap, (i, j) in enumerate(product(*map(range, kernel))):
        sampled = []
        for b, g in product(range(len(input)), range(offset_groups)):
            y = offset[b, g, tap, 0] + rows[:, None] + i * dilation[0]
            x = offset[b, g, tap, 1] + columns + j * dilation[1]
            channels = input[b].chunk(offset_groups)[g]
            sampled.append(bilinear(channels, y, x, border=False) * mask[b, g, tap])
        sampled = torch.stack(sampled).view(*input.shape[:2], *size)
        output = output + F.conv2d(sampled, weight[:, :, i, j, None, None], groups=groups)
    return output


def carafe(features, masks, kernel_size, groups, scale):
    batch, channels, height, width = features.shape
    windows = F.unfold(features, kernel_size, padding=kernel_size // 2)
    windows = windows.view(batch, groups, channels // groups, kernel_size**2, height, width)
    windows = windows.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    masks = masks.unflatten(1, (groups, 1, kernel_size**2))
    return (windows * masks).sum(dim=3).flatten(1, 2)


def psa_mask(weights, psa_type, mask_size):
    height, width = weights.shape[2:]
    weights = weights.unflatten(1, mask_size)
    output = weights.new_zeros(len(weights), height * width, height * width)
    for h, w, a, b in product(range(height), range(width), *map(range, mask_size)):
        row, column = h + a - (mask_size[0] - 1) // 2, w + b - (mask_size[1] - 1) // 2
        if 0 <= row < height and 0 <= column < width:
            source, target = h * width + w, row * width + column
            place = (target, source) if psa_type == "collect" else (source, target)
            output[:, place[0], place[1]] = weights[:, a, b, h, w]
    return output.unflatten(2, (height, width))


def sigmoid_focal_loss(logits, target, gamma, alpha, weight=None):
    p = torch.sigmoid(logits)
    positive = F.one_hot(target, logits.shape[1] + 1)[:, :-1].bool()
    loss = torch.where(
        positive,
        -alpha * (1 - p) ** gamma * p.log(),
        -(1 - alpha) * p**gamma * (1 - p).log(),
    )
    return loss if weight is None else loss * F.pad(weight, (0, 1), value=1.0)[target, None]


def softmax_focal_loss(logits, target, gamma, alpha, weight=None):
    p = F.pad(logits.softmax(dim=1), (0, 1), value=1.0)[range(len(target)), target]
    loss = -alpha * (1 - p) ** gamma * p.log()
    return loss if weight is None else loss * F.pad(weight, (0, 1), value=1.0)[target]


def overlap(a, b, offset=0, mode="iou"):
    """Overlap of two boxes (x1, y1, x2, y2, ...) of plain numbers."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + offset)
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + offset)
    area_a = (a[2] - a[0] + offset) * (a[3] - a[1] + offset)
    area_b = (b[2] - b[0] + offset) * (b[3] - b[1] + offset)
    return width * height / (area_a if mode == "iof" else area_a + area_b - width * height)


def nms_match(boxes, scores, threshold, offset=0):
    """Indices of each box kept and of those it suppresses, best first; an equal overlap counts."""
    left = sorted(range(len(boxes)), key=lambda i: -scores[i])
    groups = []
    while left:
        best = left.pop(0)
        group = [i for i in left if overlap(boxes[best], boxes[i], offset) >= threshold]
        left = [i for i in left if i not in group]
        groups.append([best, *group])
    return groups


def soft_nms(boxes, scores, threshold, sigma, min_score, method, offset):
    """Indices and lowered scores: take the best, lower the others, drop the low, as mmcv does."""
    left = [[i, box, score] for i, (box, score) in enumerate(zip(boxes, scores, strict=True))]
    taken = []
    while left:
        best = max(left, key=lambda entry: entry[2])
        left.remove(best)
        taken.append((best[0], best[2]))
        for entry in left:
            iou = overlap(best[1], entry[1], offset)
            if method == "gaussian":
                entry[2] *= math.exp(-(iou**2) / sigma)
            elif iou >= threshold:
                entry[2] *= 0 if method == "naive" else 1 - iou
        left = [entry for entry in left if entry[2] >= min_score]
    return taken

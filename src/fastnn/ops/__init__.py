"""What a plan is made of: one file an operation, and the list of them. A line here is all that others need to know."""

from fastnn.ops.activation import activation
from fastnn.ops.batch_norm import batch_norm
from fastnn.ops.conv import conv
from fastnn.ops.dense import dense
from fastnn.ops.dropout import dropout
from fastnn.ops.embedding import embedding
from fastnn.ops.last import last
from fastnn.ops.layer_norm import layer_norm
from fastnn.ops.maxout import maxout
from fastnn.ops.operation import Operation
from fastnn.ops.ordered import ordered
from fastnn.ops.pad import pad, upsample
from fastnn.ops.pool import avg_pool, max_pool
from fastnn.ops.prelu import prelu
from fastnn.ops.recurrent import gru, lstm, rnn
from fastnn.ops.rms_norm import rms_norm
from fastnn.ops.rrelu import rrelu
from fastnn.ops.scale import scale
from fastnn.ops.skip import fork, join, turn
from fastnn.ops.softmax import softmax
from fastnn.ops.sources import cast, ids, normalize

OPS: dict[str, type[Operation]] = {
    op.name(): op
    for op in (
        cast,
        normalize,
        ids,
        dense,
        activation,
        softmax,
        maxout,
        prelu,
        rrelu,
        dropout,
        batch_norm,
        layer_norm,
        rms_norm,
        scale,
        ordered,
        fork,
        turn,
        join,
        rnn,
        gru,
        lstm,
        last,
        embedding,
        conv,
        max_pool,
        avg_pool,
        pad,
        upsample,
    )
}

/* SPDX-License-Identifier: MIT */
/* The states of a stream: what its application sends, what the peer sends, and the application itself. A step that the lists do not
 * have can't happen. docs/states.md is drawn from them. */
#ifndef KS_STREAM_STATES_H
#define KS_STREAM_STATES_H

#include <stdint.h>

/* From the application to the peer. */
#define KS_SENDING_STATES(STATE) \
    STATE(SYN, "SYN sent, not acknowledged; the filler is in the pair") \
    STATE(OPEN, "bytes flow") \
    STATE(ENDED, "the application will send no more; the peer has not been told") \
    STATE(FIN, "FIN sent") \
    STATE(RESET, "reset sent") \
    STATE(OVER, "the connection is over, by the peer's reset or ours: nothing more is sent")

#define KS_SENDING_STEPS(STEP) \
    STEP(SYN, ACKNOWLEDGED, OPEN) \
    STEP(OPEN, APP_ENDED, ENDED) \
    STEP(ENDED, FIN_SENT, FIN) \
    STEP(OPEN, RESET_SENT, RESET) \
    STEP(ENDED, RESET_SENT, RESET) \
    STEP(FIN, RESET_SENT, RESET) \
    STEP(OPEN, DOOMED, OVER) \
    STEP(ENDED, DOOMED, OVER) \
    STEP(FIN, DOOMED, OVER) \
    STEP(RESET, DOOMED, RESET) \
    STEP(OVER, DOOMED, OVER)

#define KS_SENDING_EVENTS(EVENT) \
    EVENT(ACKNOWLEDGED, "the peer acknowledges the SYN") \
    EVENT(APP_ENDED, "the application ends its direction, or closes") \
    EVENT(FIN_SENT, "FIN is sent") \
    EVENT(RESET_SENT, "a reset is sent") \
    EVENT(DOOMED, "the connection ends before its streams do")

/* From the peer to the application. */
#define KS_RECEIVING_STATES(STATE) \
    STATE(OPEN, "bytes flow") \
    STATE(FIN, "no more will come; data may wait for the application") \
    STATE(TOLD, "the application has been told of the end, after the last byte") \
    STATE(DOOMED, "the connection is over; E goes when its data has been read")

#define KS_RECEIVING_STEPS(STEP) \
    STEP(OPEN, PEER_ENDED, FIN) \
    STEP(FIN, PEER_ENDED, FIN) \
    STEP(TOLD, PEER_ENDED, TOLD) \
    STEP(FIN, END_TOLD, TOLD) \
    STEP(OPEN, DOOMED, DOOMED) \
    STEP(FIN, DOOMED, DOOMED) \
    STEP(TOLD, DOOMED, DOOMED) \
    STEP(DOOMED, DOOMED, DOOMED)

#define KS_RECEIVING_EVENTS(EVENT) \
    EVENT(PEER_ENDED, "the peer's FIN comes, or we have reset the stream") \
    EVENT(END_TOLD, "E is shut down for writing") \
    EVENT(DOOMED, "the connection ends before its streams do")

/* The application, as far as its end of the pair tells. */
#define KS_READER_STATES(STATE) \
    STATE(READS, "it is there") \
    STATE(DEAF, "it will read no more: what comes for it is dropped") \
    STATE(LEAVING, "its process exits: its end counts as closed, though it stands") \
    STATE(GONE, "both directions of its end are closed")

#define KS_READER_STEPS(STEP) \
    STEP(READS, DEAFENED, DEAF) \
    STEP(DEAF, DEAFENED, DEAF) \
    STEP(LEAVING, DEAFENED, GONE) \
    STEP(GONE, DEAFENED, GONE) \
    STEP(READS, EXITS, LEAVING) \
    STEP(DEAF, EXITS, GONE) \
    STEP(LEAVING, EXITS, LEAVING) \
    STEP(GONE, EXITS, GONE) \
    STEP(READS, CLOSED, GONE) \
    STEP(DEAF, CLOSED, GONE)

#define KS_READER_EVENTS(EVENT) \
    EVENT(DEAFENED, "a write to E fails, or the stream is reset") \
    EVENT(EXITS, "the process exits") \
    EVENT(CLOSED, "both directions have ended")

#define KS_SENDING_NAME(name, meaning) KS_SENDING_##name,
#define KS_SENDING_EVENT_NAME(name, meaning) KS_SENDING_ON_##name,
#define KS_RECEIVING_NAME(name, meaning) KS_RECEIVING_##name,
#define KS_RECEIVING_EVENT_NAME(name, meaning) KS_RECEIVING_ON_##name,
#define KS_READER_NAME(name, meaning) KS_READER_##name,
#define KS_READER_EVENT_NAME(name, meaning) KS_READER_ON_##name,
typedef enum { KS_SENDING_STATES(KS_SENDING_NAME) KS_SENDING_COUNT } ks_sending;
typedef enum { KS_SENDING_EVENTS(KS_SENDING_EVENT_NAME) KS_SENDING_EVENT_COUNT } ks_sending_event;
typedef enum { KS_RECEIVING_STATES(KS_RECEIVING_NAME) KS_RECEIVING_COUNT } ks_receiving;
typedef enum { KS_RECEIVING_EVENTS(KS_RECEIVING_EVENT_NAME) KS_RECEIVING_EVENT_COUNT } ks_receiving_event;
typedef enum { KS_READER_STATES(KS_READER_NAME) KS_READER_COUNT } ks_reader;
typedef enum { KS_READER_EVENTS(KS_READER_EVENT_NAME) KS_READER_EVENT_COUNT } ks_reader_event;

/* Each moves *state on. A step that is not in the list leaves it as it is, and ends a build with KS_CHECKS. */
void ks_sending_step(ks_sending *state, ks_sending_event event);
void ks_receiving_step(ks_receiving *state, ks_receiving_event event);
void ks_reader_step(ks_reader *state, ks_reader_event event);

#endif

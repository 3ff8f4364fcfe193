/**
 * What grpc-go does with PINGs, for peers of tests: both its ends measure their bandwidth with them, and its servers cut off
 * who sends more than the content of theirs explains. It knows no connection.
 */

/** Payload of the bandwidth estimator's PINGs (grpc-go, internal/transport/bdp_estimator.go). */
export const bdpPayload = Buffer.from([2, 4, 16, 16, 9, 14, 7, 7]);

/** One PING at a time: where DATA comes in and none is under way. */
export class BdpEstimator {
  #isUnderWay = false;

  /** DATA has come in, of whatever length. @returns Whether a PING goes out now. */
  received(): boolean {
    const due = !this.#isUnderWay;
    this.#isUnderWay = true;
    return due;
  }

  /** @param payload Of a PING ACK. */
  acknowledged(payload: Buffer): void {
    if (payload.equals(bdpPayload)) this.#isUnderWay = false;
  }
}

const maxStrikes = 2;

/**
 * The policy of a server that no option changes (grpc-go, internal/transport/http2_server.go, handlePing). Of the 5 minutes
 * that it wants between two PINGs no test sees the end.
 */
export class PingPolice {
  #strikes = 0;
  /** The server itself has sent HEADERS or DATA since the last PING; before the first there is nothing to compare with. */
  #isForgiving = true;

  /** HEADERS or DATA have been written. */
  sent(): void {
    this.#isForgiving = true;
  }

  /** A PING without ACK has come in. @returns Whether it is one too many: GOAWAY `too_many_pings`, and the end. */
  received(): boolean {
    this.#strikes = this.#isForgiving ? 0 : this.#strikes + 1;
    this.#isForgiving = false;
    return this.#strikes > maxStrikes;
  }
}
